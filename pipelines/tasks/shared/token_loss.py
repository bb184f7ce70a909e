"""Cross entropy of every target token in float32, without logits of other tokens or a copy of all logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pipelines.tasks.shared.target_loss import IGNORED, TargetLoss

__all__ = ["IGNORED", "target_losses", "token_losses"]
CHUNK_ELEMENTS = 1 << 24  # logits per chunk: 64 MiB in float32


def target_losses(
    model: Any, inputs: Mapping[str, Any], labels: Tensor, num_targets: int, smoothing: float = 0.0
) -> tuple[Tensor, Any]:
    """Run a model and return the loss of each label as `token_losses` does, and the output of the model.

    Logits are formed at targets only: those of padding, of a source and of tokens that are not hidden would
    take as much time and memory, and no loss reads them.

    Args:
        inputs: keyword arguments of the forward.
        labels: `(batch, len)`, the label that the model gives at each position.
        num_targets: the number of labels that are not `IGNORED`; counting them here would wait for the
            device.
    """
    places = (labels.flatten() != IGNORED).nonzero_static(size=num_targets).flatten()
    with _logits_at(model, places):
        output = model(**inputs)
    logits = output.logits
    if logits.shape[:2] == labels.shape:  # the model does not use its head as a module
        logits = logits.flatten(0, 1).index_select(0, places)[None]
    found = token_losses(logits, labels.flatten().index_select(0, places)[None], smoothing)
    losses = found.new_zeros(labels.numel()).index_add(0, places, found[0])
    return losses.view(labels.shape), output


@contextmanager
def _logits_at(model: Any, places: Tensor) -> Iterator[None]:
    """Let the head of a model compute only some positions of its flattened input, as one row `(1, count)`."""

    def pick(head: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        return (args[0].flatten(0, 1).index_select(0, places)[None],)

    head = (model.module if hasattr(model, "module") else model).get_output_embeddings()
    hook = None if head is None else head.register_forward_pre_hook(pick)
    try:
        yield
    finally:
        if hook is not None:
            hook.remove()


def token_losses(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the negative log-likelihood of each label, float32 `(batch, len)`; 0 where it is `IGNORED`.

    `smoothing` is the share of each target that is spread over the vocabulary, in training.

    With a large vocabulary the logits `(batch, len, vocabulary)` are the largest tensor of a step, and their
    log softmax in float32 would be kept for the backward pass beside them. Instead it is computed again in
    the backward pass, one chunk of positions at a time; the values are the same.
    """
    rows, targets = logits.flatten(0, 1), labels.flatten()
    most = max(1, CHUNK_ELEMENTS // max(1, logits.shape[2]))
    if len(rows) <= most:
        return _losses(rows, targets, smoothing).view(labels.shape)
    chunks = zip(rows.split(most), targets.split(most))
    losses = [
        checkpoint(_losses, *chunk, smoothing, use_reentrant=False, preserve_rng_state=False)
        for chunk in chunks
    ]
    return torch.cat(losses).view(labels.shape)


def _losses(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    return TargetLoss(smoothing)(logits.float(), labels)
