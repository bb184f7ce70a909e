"""Gradient checkpointing: compute activations again in the backward pass instead of keeping them."""

from __future__ import annotations

from transformers import PreTrainedModel

from pipelines.errors import UserError


def recompute_activations(model: PreTrainedModel) -> None:
    """Keep only the input of every layer for the backward pass, in training (Chen et al. 2016).

    Dropout draws the same numbers when a layer runs again, so no result of a run changes.

    Raises:
        UserError: transformers does not support it for this architecture.
    """
    if not model.supports_gradient_checkpointing:
        what = f"{type(model).__name__} cannot compute its layers again"
        raise UserError("gradient_checkpointing", what, accepted="leave it at false, or lower max_tokens")
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
