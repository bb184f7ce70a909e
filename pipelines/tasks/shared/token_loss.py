"""Cross entropy of every target token in float32, without a float32 copy of all logits."""

from __future__ import annotations

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

IGNORED = -100  # labels that are no targets: padding, prompts
CHUNK_ELEMENTS = 1 << 24  # logits worked on at a time: 64 MiB in float32


def token_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of each label, float32 `(batch, len)`; 0 where a label is `IGNORED`.

    Logits `(batch, len, vocabulary)` of a large vocabulary are the largest tensor of a step, and their log
    softmax in float32, kept for the backward pass, would stand beside them. It is made again there instead,
    one stretch of positions at a time; the numbers are the same.
    """
    positions = max(1, CHUNK_ELEMENTS // max(1, logits.shape[0] * logits.shape[2]))
    if logits.shape[1] <= positions:
        return _losses(logits, labels)
    chunks = zip(logits.split(positions, dim=1), labels.split(positions, dim=1))
    return torch.cat(
        [checkpoint(_losses, *chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks],
        dim=1,
    )


def _losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(
        logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
    )
