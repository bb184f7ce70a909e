"""Inputs on which a model is tried before it trains, cut where a trial would need more memory than a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

MOST_TOKENS = 4096  # of a batch with its padding: those of a micro-batch on a CPU
TARGETS = ("labels", "start_positions", "end_positions")


def tensors_of(batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return what a model reads of a batch."""
    return {name: value for name, value in batch.items() if isinstance(value, Tensor)}


def shortened(model: PreTrainedModel, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the first tokens of long texts; other inputs are returned as they are, the same dict.

    What is cut has no targets, because none may be left in it; an encoder-decoder reads them.
    """
    ids = inputs.get("input_ids")
    if ids is None or ids.numel() <= MOST_TOKENS:
        return inputs
    most, left_out = MOST_TOKENS // len(ids), () if model.config.is_encoder_decoder else TARGETS
    return {
        name: tensor[:, :most] if tensor.dim() == 2 and not tensor.is_floating_point() else tensor
        for name, tensor in inputs.items()
        if name not in left_out
    }
