"""Gradient checkpointing: a layer's activations are computed again in the backward pass instead of kept."""

from __future__ import annotations

from transformers import PreTrainedModel

from pipelines.errors import UserError


def recompute_activations(model: PreTrainedModel) -> None:
    """Keep, of every layer, its input alone; in training only.

    Dropout draws the same when a layer runs again, so no number of a run changes (Chen et al. 2016).

    Raises:
        UserError: the architecture cannot run its layers again.
    """
    if not model.supports_gradient_checkpointing:
        what = f"{type(model).__name__} cannot compute its layers again"
        raise UserError("gradient_checkpointing", what, accepted="leave it at false, or lower max_tokens")
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
