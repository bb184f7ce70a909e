"""The loss of a target in training: cross entropy with smoothed targets and weighted labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

IGNORED = -100  # the target of what has none


@dataclass(frozen=True)
class TargetLoss:
    """Cross entropy of each target, 0 without one; evaluation uses it plain.

    Attributes:
        smoothing: share of a target that is spread over all labels (Szegedy et al. 2016).
        weights: factor on the loss of each label, by its number. The sum of losses is divided by the number
            of targets as without them, so that batches and processes change nothing.
    """

    smoothing: float = 0.0
    weights: tuple[float, ...] | None = None

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the losses in the shape of `targets`; `logits` has the labels as dimension 1."""
        weights = None if self.weights is None else logits.new_tensor(self.weights)
        return functional.cross_entropy(
            logits,
            targets,
            weight=weights,
            ignore_index=IGNORED,
            reduction="none",
            label_smoothing=self.smoothing,
        )


PLAIN = TargetLoss()
