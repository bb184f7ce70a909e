"""Inputs on which a model is tried before it trains, cut where a trial would need more memory than a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

MOST_TOKENS = 4096  # of a batch with its padding: those of a micro-batch on a CPU
TARGETS = ("labels", "start_positions", "end_positions")


def tensors_of(batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return what a model reads of a batch."""
    return {name: value for name, value in batch.items() if isinstance(value, Tensor)}


def shortened(model: PreTrainedModel, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the first tokens of long texts; other inputs are returned as they are, the same dict.

    Tokens that end a text stay: classifiers of BART and T5 read the last one. What is cut has no targets,
    because none may be left in it; an encoder-decoder reads them.
    """
    if not _are_long(inputs):
        return inputs
    ids = inputs["input_ids"]
    places = torch.arange(ids.shape[1], device=ids.device)
    order = torch.where(_are_ends(model, inputs), -1, places)
    kept = order.argsort(dim=1, stable=True)[:, : MOST_TOKENS // len(ids)].sort(1).values
    return {name: _cut(tensor, kept, ids) for name, tensor in _read(model, inputs).items()}


def rows_apart(model: PreTrainedModel, inputs: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return a batch; where its texts are long, batches of one row each, without targets as `shortened`.

    A row ends with its last token: a mask that hides padding would take more memory than a step.
    """
    if not _are_long(inputs):
        return [inputs]
    ids = inputs["input_ids"]
    read = _read(model, inputs)
    mask = read.get("attention_mask", torch.ones_like(ids))
    ends = (mask.bool() * torch.arange(1, ids.shape[1] + 1, device=ids.device)).amax(1).tolist()
    return [{n: _row(tensor, row, ids, end) for n, tensor in read.items()} for row, end in enumerate(ends)]


def _row(tensor: Tensor, row: int, ids: Tensor, end: int) -> Tensor:
    """Return one row; of what has one number for each token, the first `end`."""
    one = tensor[row : row + 1]
    return one[:, :end] if tensor.shape == ids.shape else one


def _are_long(inputs: dict[str, Tensor]) -> bool:
    return "input_ids" in inputs and inputs["input_ids"].numel() > MOST_TOKENS


def _read(model: PreTrainedModel, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the inputs without targets, which an encoder-decoder reads."""
    left_out = () if model.config.is_encoder_decoder else TARGETS
    return {name: tensor for name, tensor in inputs.items() if name not in left_out}


def _are_ends(model: PreTrainedModel, inputs: dict[str, Tensor]) -> Tensor:
    """Return which tokens end a text, (batch, len); padding, which may have the same id, ends none."""
    ids, of_config = inputs["input_ids"], getattr(model.config, "eos_token_id", None)
    ends = [] if of_config is None else of_config
    are_ends = torch.isin(ids, torch.as_tensor(ends, dtype=ids.dtype, device=ids.device))
    return are_ends & inputs["attention_mask"].bool() if "attention_mask" in inputs else are_ends


def _cut(tensor: Tensor, kept: Tensor, ids: Tensor) -> Tensor:
    """Return the kept places of what has one number for each token, and as many of other texts."""
    if tensor.shape == ids.shape:
        return tensor.gather(1, kept)
    is_text = tensor.dim() == 2 and not tensor.is_floating_point()
    return tensor[:, : kept.shape[1]] if is_text else tensor
