"""Swap the attention of a transformers model for a variant of it, and restore it."""

from custom_attention.attach import attach, attached, detach, is_attached, variant_parameters
from custom_attention.diagnostics import SiteDiagnostics, diagnose
from custom_attention.fold import Fold, fold
from custom_attention.kernels.select import use_kernel
from custom_attention.proof import Proof, prove
from custom_attention.runtime.paired_dropout import site_dropout
from custom_attention.saving import load, save
from custom_attention.scaled_self_attention import ScaledSelfAttention
from custom_attention.sites import sites
from custom_attention.training import penalty, set_progress, trainer_callback, transferring
from custom_attention.variant import Call, Site, Variant, VariantError

__all__ = [
    "Call",
    "Fold",
    "Proof",
    "ScaledSelfAttention",
    "Site",
    "SiteDiagnostics",
    "Variant",
    "VariantError",
    "attach",
    "attached",
    "detach",
    "diagnose",
    "fold",
    "is_attached",
    "load",
    "penalty",
    "prove",
    "save",
    "set_progress",
    "site_dropout",
    "sites",
    "trainer_callback",
    "transferring",
    "use_kernel",
    "variant_parameters",
]
