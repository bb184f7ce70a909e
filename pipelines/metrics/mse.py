"""Mean squared error of forecasts, over all numbers of all examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.metrics.base import Metric, ratio


class MeanSquaredError(Metric):
    """Mean squared error in the squared unit of the data. Arms are compared by the ratio of their errors.

    Prediction and reference are numbers or nested lists of them, of one shape.
    """

    name = "mse"
    columns = ("squared_error", "count")
    higher_is_better = False
    scale = "log"

    @property
    def signature(self) -> str:
        return "mse|average:micro"

    def statistics(self, prediction: Any, reference: Any) -> np.ndarray:
        errors = _squared(prediction, reference)
        return np.array([math.fsum(errors), errors.size])

    def score(self, sums: np.ndarray) -> np.ndarray:
        return ratio(sums)

    def library_score(self, predictions: Sequence[Any], references: Sequence[Any]) -> float:
        errors = [_squared(p, r) for p, r in zip(predictions, references, strict=True)]
        together = np.concatenate(errors) if errors else np.zeros(0)
        return float(together.mean()) if together.size else 0.0


def _squared(prediction: Any, reference: Any) -> np.ndarray:
    predicted, gold = (np.asarray(values, dtype=np.float64) for values in (prediction, reference))
    if predicted.shape != gold.shape:
        raise ValueError(f"a forecast of shape {predicted.shape} for values of shape {gold.shape}")
    return np.square(predicted - gold).ravel()
