"""Share of correct answers: one per example, or one per position of a tagged sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.metrics.base import Metric, ratio


class Accuracy(Metric):
    """Correct answers over all answers, 0-100. Lists (tags of a sentence) are compared by position."""

    name = "accuracy"
    columns = ("right", "count")

    @property
    def signature(self) -> str:
        return "accuracy|average:micro"

    def statistics(self, prediction: Any, reference: Any) -> np.ndarray:
        predicted, gold = _answers(prediction), _answers(reference)
        if len(predicted) != len(gold):
            raise ValueError(f"{len(predicted)} predicted answers for {len(gold)}")
        return np.array([sum(p == g for p, g in zip(predicted, gold)), len(gold)], dtype=np.float64)

    def score(self, sums: np.ndarray) -> np.ndarray:
        return ratio(sums, 100)

    def library_score(self, predictions: Sequence[Any], references: Sequence[Any]) -> float:
        pairs = [
            (p, g)
            for prediction, reference in zip(predictions, references, strict=True)
            for p, g in zip(_answers(prediction), _answers(reference), strict=True)
        ]
        return 100 * (sum(p == g for p, g in pairs) / len(pairs)) if pairs else 0.0


def _answers(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple, np.ndarray)) else [value]
