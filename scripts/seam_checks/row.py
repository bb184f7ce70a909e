"""One row of the table: a model type built, attached to and measured, or what stands in the way."""

from __future__ import annotations

from custom_attention import VariantError, detach
from custom_attention.sites import sites
from scripts.seam_checks.checks import measured
from scripts.seam_checks.tiny import model_class, tiny


def row(model_type: str) -> dict:
    """{"class": ..., "sites": n, "cells": {...}} or, where it is not reached, "refused" or "unbuilt"."""
    try:
        name = model_class(model_type).__name__
        model = tiny(model_type)
    except Exception as error:  # any of 800 model types
        return {"unbuilt": _sentence(error)}
    try:
        found = sites(model)
        return {
            "class": name,
            "sites": len(found),
            "kernel": model.config._attn_implementation,
            "cells": measured(model),
        }
    except VariantError as error:
        return {"class": name, "refused": _sentence(error)}
    finally:
        detach(model)


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, VariantError) else f"{type(error).__name__}: {text}"
