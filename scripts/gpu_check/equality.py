"""Float32 on the GPU and the CPU: outputs and gradients of every variant on tiny models of all families."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

import custom_attention
from custom_attention.battery.models import FAMILIES, nudge, padded, tiny
from custom_attention.errors import VariantError
from pipelines.registry import catalog
from scripts.gpu_check.scale import Scale

IN_TINY = ("stock", "temperature", "entmax")


def measure(scale: Scale) -> dict[str, Any]:
    """Return the largest difference to the CPU, over the largest value on the CPU, of each variant."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    names = IN_TINY if scale.is_tiny else catalog.names(catalog.VARIANT)
    found = {name: _worst(name, scale) for name in names}
    worst = max(found, key=lambda name: found[name])
    return {"difference": found, "worst": worst, "largest": found[worst]}


def _worst(name: str, scale: Scale) -> float:
    return max(_difference(name, family, scale) for family in FAMILIES)


def _difference(name: str, family: str, scale: Scale) -> float:
    """Return 0.0 for a model that the variant refuses."""
    model = tiny(family)
    try:
        custom_attention.attach(model, name, where={"kind": "self"})
    except VariantError:
        return 0.0
    nudge(custom_attention.variant_parameters(model).values())
    alike = copy.deepcopy(model).to(scale.device)
    pairs = zip(_numbers(model, family), _numbers(alike, family), strict=True)
    return max(
        float((one - other.cpu()).abs().max() / one.abs().max().clamp_min(1e-6)) for one, other in pairs
    )


def _numbers(model: Any, family: str) -> list[Tensor]:
    """Return the outputs at tokens and the gradients of all parameters."""
    batch = padded(family)
    device = next(model.parameters()).device
    logits = model(**{name: value.to(device) for name, value in batch.inputs.items()}).logits
    real = torch.cat([batch.real(logits, row).flatten() for row in range(len(batch.lengths))])
    real.square().mean().backward()
    return [real.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]
