"""F1 of one label per example, macro- or micro-averaged over the labels, as scikit-learn counts."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Literal

import numpy as np

from pipelines.errors import UserError
from pipelines.metrics.base import Metric


class ClassificationF1(Metric):
    """F1 of each label, averaged.

    "macro" is the unweighted mean over the labels that occur in the predictions or the references;
    "micro" counts over all labels together, which equals the accuracy when an example has one label.

    Args:
        labels: every label of the task; the statistics have three columns for each.
        average: "macro" or "micro".
    """

    def __init__(self, labels: Sequence[str], average: Literal["macro", "micro"] = "macro") -> None:
        if average not in ("macro", "micro"):
            raise UserError("metric classification_f1", "unknown average", average, "macro, micro")
        self.labels, self.average = list(labels), average
        self.name = f"f1_{average}"
        self._place = {label: place for place, label in enumerate(self.labels)}
        self.columns = tuple(
            f"{count}.{label}" for label in self.labels for count in ("right", "predicted", "gold")
        )

    @property
    def signature(self) -> str:
        how = f"average:{self.average}|labels:{len(self.labels)}|zero_division:0"
        return f"scikit-learn|version:{version('scikit-learn')}|f1|{how}"

    def statistics(self, prediction: str, reference: str) -> np.ndarray:
        counts = np.zeros((len(self.labels), 3))
        predicted, gold = self._place[prediction], self._place[reference]
        counts[gold, 0] += predicted == gold
        counts[predicted, 1] += 1
        counts[gold, 2] += 1
        return counts.ravel()

    def score(self, sums: np.ndarray) -> np.ndarray:
        counts = np.asarray(sums, dtype=np.float64)
        counts = counts.reshape(*counts.shape[:-1], len(self.labels), 3)
        if self.average == "micro":
            return 100 * _f1(counts.sum(axis=-2))
        occurs = (counts[..., 1:] > 0).any(axis=-1)
        means = (_f1(counts) * occurs).sum(axis=-1) / np.maximum(1, occurs.sum(axis=-1))
        return 100 * means

    def library_score(self, predictions: Sequence[str], references: Sequence[str]) -> float:
        from sklearn.metrics import f1_score

        if not len(references):
            return 0.0
        return 100 * float(
            f1_score(list(references), list(predictions), average=self.average, zero_division=0)
        )


def _f1(counts: np.ndarray) -> np.ndarray:
    """Return 2 right / (predicted + gold), 0 where both are 0: `(..., 3)` -> `(...)`."""
    right, predicted, gold = np.moveaxis(counts, -1, 0)
    both = predicted + gold
    return 2 * right / np.where(both > 0, both, 1)
