"""The numbers of optimizer steps: on the device while it works, on the host when somebody looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Taken:
    """An optimizer step whose numbers are still on the device, where reading them would make it wait."""

    learning_rate: float
    num_targets: int
    numbers: torch.Tensor  # (3,): loss of the targets and ranks asked to stop, over all ranks; gradient norm


@dataclass(frozen=True)
class Seen:
    """A step that was taken."""

    learning_rate: float
    num_targets: int
    loss_sum: float
    asked_to_stop: bool
    grad_norm: float  # before clipping

    @property
    def loss(self) -> float:
        return self.loss_sum / max(1, self.num_targets)

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.loss_sum) and math.isfinite(self.grad_norm)


def read(steps: Sequence[Taken]) -> list[Seen]:
    """The numbers of steps, all in one transfer from the device."""
    rows = torch.stack([step.numbers for step in steps]).tolist()
    return [
        Seen(step.learning_rate, step.num_targets, loss_sum, asked > 0, grad_norm)
        for step, (loss_sum, asked, grad_norm) in zip(steps, rows)
    ]
