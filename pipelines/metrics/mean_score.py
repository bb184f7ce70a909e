"""Mean of a score that another program gave to each example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.metrics.base import Metric, mean, ratio


class MeanScore(Metric):
    """Mean of given numbers, in their own unit: exact match of a harness, a grade of a judge, a loss.

    A prediction is the number of the example, or a mapping that holds it by name; there is no reference.

    Args:
        name: what the other program calls the score.
        higher_is_better: false for a loss or an error.
    """

    columns = ("value", "count")
    scale = "own"

    def __init__(self, name: str = "score", higher_is_better: bool = True) -> None:
        self.name, self.higher_is_better = name, higher_is_better

    @property
    def signature(self) -> str:
        return f"mean of given scores|better:{'higher' if self.higher_is_better else 'lower'}"

    def statistics(self, prediction: Any, reference: Any) -> np.ndarray:
        value = prediction[self.name] if isinstance(prediction, Mapping) else prediction
        return np.array([value, 1.0], dtype=np.float64)

    def score(self, sums: np.ndarray) -> np.ndarray:
        return ratio(sums)

    def library_score(self, predictions: Sequence[Any], references: Sequence[Any]) -> float:
        return mean([float(self.statistics(one, None)[0]) for one in predictions])
