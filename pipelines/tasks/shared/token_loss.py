"""Cross entropy of every target token in float32, without a float32 copy of all logits."""

from __future__ import annotations

import torch
from torch.utils.checkpoint import checkpoint

from pipelines.tasks.shared.target_loss import IGNORED, TargetLoss

__all__ = ["IGNORED", "token_losses"]
CHUNK_ELEMENTS = 1 << 24  # logits per chunk: 64 MiB in float32


def token_losses(logits: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """Return the negative log-likelihood of each label, float32 `(batch, len)`; 0 where it is `IGNORED`.

    `smoothing` is the share of each target that is spread over the vocabulary, in training.

    With a large vocabulary the logits `(batch, len, vocabulary)` are the largest tensor of a step, and their
    log softmax in float32 would be kept for the backward pass beside them. Instead it is computed again in
    the backward pass, one chunk of positions at a time; the values are the same.
    """
    positions = max(1, CHUNK_ELEMENTS // max(1, logits.shape[0] * logits.shape[2]))
    if logits.shape[1] <= positions:
        return _losses(logits, labels, smoothing)
    chunks = zip(logits.split(positions, dim=1), labels.split(positions, dim=1))
    return torch.cat(
        [
            checkpoint(_losses, *chunk, smoothing, use_reentrant=False, preserve_rng_state=False)
            for chunk in chunks
        ],
        dim=1,
    )


def _losses(logits: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    return TargetLoss(smoothing)(logits.float().transpose(1, 2), labels)
