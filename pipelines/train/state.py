"""The state of a training run: what a checkpoint keeps besides weights and optimizer moments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class TrainState:
    """Progress and best results of a run; all of it is in every checkpoint."""

    step: int = 0  # optimizer steps taken
    best_step: int | None = None
    best_score: float | None = None  # of the selecting metric, signed so that more is better
    best_scores: dict[str, float] = field(default_factory=dict)  # every metric at best_step
    best_task_state: dict[str, Any] = field(default_factory=dict)  # what the task tuned at best_step
    evaluations_since_best: int = 0
    diverged_at: int | None = None
    train_seconds: float = 0.0
    train_cpu_seconds: float = 0.0  # of this process; does not depend on other work on the machine
    # Sums since the last line of the log:
    loss_sum: float = 0.0
    num_targets: int = 0

    def stopped_early(self, patience: int | None) -> bool:
        """Return whether `patience` evaluations in a row brought no better score; None: never."""
        return patience is not None and self.evaluations_since_best >= patience
