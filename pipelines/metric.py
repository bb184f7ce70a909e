"""The contract of a metric: statistics per example that add up, and a score of their sum."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np


class Metric(ABC):
    """A score of a set of examples that depends on them only through a sum of per-example statistics.

    That one property carries everything after training: corpus scores, jackknife and bootstrap all
    re-sum the same array, so none of them ever needs a model again.
    """

    module: ClassVar[str]  # name of the file under `metrics/`, to find this metric again from a run folder
    name: str  # "f1"; unique within a task
    columns: tuple[str, ...]  # names of the statistics, such as ("true_positives", "predicted", "gold")
    higher_is_better: bool = True

    @property
    @abstractmethod
    def signature(self) -> str:
        """Everything that changes the number, in one line: library, version, options."""

    @property
    def options(self) -> dict[str, Any]:
        """Constructor arguments that rebuild this metric."""
        return {}

    @abstractmethod
    def statistics(self, prediction: Any, reference: Any) -> np.ndarray:
        """Statistics of one example, float64, shape `(len(columns),)`."""

    @abstractmethod
    def score(self, sums: np.ndarray) -> np.ndarray:
        """Points 0-100 (or the metric's own unit) of summed statistics `(..., len(columns))` -> `(...)`."""
