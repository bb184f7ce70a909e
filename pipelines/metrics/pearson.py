"""Pearson's correlation of predicted and true numbers, as scipy computes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np

from pipelines.metrics.base import Metric


class Pearson(Metric):
    """Pearson's correlation times 100; 0 where all predictions or all references are equal.

    The statistics are moments around the means of the scored examples. A correlation does not depend on
    where they are, and sums of large numbers with small differences would lose those differences.
    """

    name = "pearson"
    columns = ("count", "x", "y", "xx", "yy", "xy")

    @property
    def signature(self) -> str:
        return f"scipy|version:{version('scipy')}|pearsonr|constant:0"

    def statistics(self, prediction: float, reference: float) -> np.ndarray:
        return self.table([prediction], [reference])[0]

    def table(self, predictions: Sequence[float], references: Sequence[float]) -> np.ndarray:
        x, y = centred(predictions), centred(references)
        return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)

    def score(self, sums: np.ndarray) -> np.ndarray:
        count, x, y, xx, yy, xy = np.moveaxis(np.asarray(sums, dtype=np.float64), -1, 0)
        count = np.maximum(count, 1)
        below = np.sqrt(np.maximum(xx - x * x / count, 0)) * np.sqrt(np.maximum(yy - y * y / count, 0))
        return 100 * np.where(below > 0, (xy - x * y / count) / np.where(below > 0, below, 1), 0.0)

    def library_score(self, predictions: Sequence[float], references: Sequence[float]) -> float:
        from scipy.stats import pearsonr

        if len(set(predictions)) < 2 or len(set(references)) < 2:
            return 0.0
        return 100 * float(pearsonr(predictions, references).statistic)


def centred(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return values minus their mean; exactly 0 where all are equal."""
    array = np.asarray(values, dtype=np.float64)
    if not len(array) or (array == array[0]).all():
        return np.zeros(len(array))
    return array - math.fsum(array) / len(array)
