"""Cross entropy of every target token in float32, without logits of other tokens or a copy of all logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pipelines.tasks.shared.target_loss import IGNORED, TargetLoss

__all__ = ["IGNORED", "target_losses", "token_losses"]
CHUNK_ELEMENTS = 1 << 22  # logits per chunk: 16 MiB in float32


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
    with _logits_at(model, places) as of_head:
        output = model(**inputs)
    logits = output.logits
    # Nothing but the loss reads the logits, unless the model changes what its head gives.
    reuse = len(of_head) == 1 and of_head[0].data_ptr() == logits.data_ptr()
    if logits.shape[:2] == labels.shape:  # the model does not use its head as a module
        logits = logits.flatten(0, 1).index_select(0, places)[None]
    found = token_losses(logits, labels.flatten().index_select(0, places)[None], smoothing, reuse=reuse)
    losses = found.new_zeros(labels.numel()).index_add(0, places, found[0])
    return losses.view(labels.shape), output


@contextmanager
def _logits_at(model: Any, places: Tensor) -> Iterator[list[Tensor]]:
    """Let the head of a model compute only some positions of its flattened input, as one row `(1, count)`.

    The list that the block gets holds what the head gave.
    """
    given: list[Tensor] = []

    def pick(head: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        return (args[0].flatten(0, 1).index_select(0, places)[None],)

    def note(head: nn.Module, args: tuple[Tensor], logits: Tensor) -> None:
        given.append(logits)

    head = (model.module if hasattr(model, "module") else model).get_output_embeddings()
    hooks = [] if head is None else [head.register_forward_pre_hook(pick), head.register_forward_hook(note)]
    try:
        yield given
    finally:
        for hook in hooks:
            hook.remove()


def token_losses(logits: Tensor, labels: Tensor, smoothing: float = 0.0, *, reuse: bool = False) -> Tensor:
    """Return the negative log-likelihood of each label, float32 `(batch, len)`; 0 where it is `IGNORED`.

    With a large vocabulary the logits `(batch, len, vocabulary)` are the largest tensor of a step, and their
    log softmax in float32 would be kept for the backward pass beside them. Instead the softmax is computed in
    the backward pass, one chunk of positions at a time.

    Args:
        smoothing: share of each target that is spread over the vocabulary, in training.
        reuse: the gradient of the logits takes their memory in the backward pass: nobody else reads them.
    """
    found: Tensor = _TokenLosses.apply(logits.flatten(0, 1), labels.flatten(), smoothing, reuse)
    return found.view(labels.shape)


class _TokenLosses(torch.autograd.Function):
    """Losses (count,) of logits (count, vocabulary)."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, smoothing: float, reuse: bool) -> Tensor:
        ctx.save_for_backward(logits, labels)
        ctx.smoothing, ctx.reuse = smoothing, reuse
        most, loss = _rows_of_a_chunk(logits), TargetLoss(smoothing)
        chunks = zip(logits.split(most), labels.split(most))
        return torch.cat([loss(rows.float(), targets) for rows, targets in chunks])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        logits, labels = ctx.saved_tensors
        # A second backward pass stops with torch's own error: the saved logits have changed.
        of_logits = logits if ctx.reuse else torch.empty_like(logits)
        most = _rows_of_a_chunk(logits)
        weights = torch.where(labels == IGNORED, 0.0, gradient)[:, None]
        targets = labels.clamp(min=0)[:, None]
        for rows, into, weight, target in zip(
            *(t.split(most) for t in (logits, of_logits, weights, targets))
        ):
            chunk = torch.softmax(rows.float(), -1)
            if ctx.smoothing:
                chunk.sub_(ctx.smoothing / chunk.shape[1])
            into.copy_(chunk.mul_(weight).scatter_add_(1, target, weight * (ctx.smoothing - 1.0)))
        return of_logits, None, None, None


def _rows_of_a_chunk(logits: Tensor) -> int:
    return max(1, CHUNK_ELEMENTS // max(1, logits.shape[1]))
