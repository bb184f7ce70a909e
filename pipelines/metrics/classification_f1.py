"""F1 of one label per example, macro- or micro-averaged over the labels, as scikit-learn counts."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
from scipy.sparse import csr_array

from pipelines.errors import UserError
from pipelines.metrics.base import Metric, one_or_more


class ClassificationF1(Metric):
    """F1 of each label, averaged. A prediction and a reference are one label, or a list of different ones.

    "macro" is the unweighted mean over the labels that occur in the predictions or the references;
    "micro" counts over all labels together, which equals the accuracy where each example has one label.

    Args:
        labels: every label of the task; the statistics have three columns for each.
        average: "macro" or "micro".
    """

    is_sparse = True

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

    def statistics(self, prediction: str | Sequence[str], reference: str | Sequence[str]) -> np.ndarray:
        counts = np.zeros(len(self.columns))
        counts[self._counted(prediction, reference)] = 1
        return counts

    def _counted(self, prediction: str | Sequence[str], reference: str | Sequence[str]) -> list[int]:
        """Return the columns in which an example counts 1, in order."""
        predicted, gold = (
            {self._place[label] for label in one_or_more(one)} for one in (prediction, reference)
        )
        places = [3 * place for place in predicted & gold]
        places += [3 * place + 1 for place in predicted] + [3 * place + 2 for place in gold]
        return sorted(places)

    def table(
        self, predictions: Sequence[str | Sequence[str]], references: Sequence[str | Sequence[str]]
    ) -> csr_array:
        rows = [self._counted(p, r) for p, r in zip(predictions, references, strict=True)]
        ends = np.cumsum([0, *map(len, rows)])
        places = np.array([place for row in rows for place in row], dtype=np.int32)
        return csr_array((np.ones(len(places)), places, ends), shape=(len(rows), len(self.columns)))

    def score(self, sums: np.ndarray) -> np.ndarray:
        counts = np.asarray(sums, dtype=np.float64)
        counts = counts.reshape(*counts.shape[:-1], len(self.labels), 3)
        if self.average == "micro":
            return 100 * _f1(counts.sum(axis=-2))
        occurs = (counts[..., 1:] > 0).any(axis=-1)
        means = (_f1(counts) * occurs).sum(axis=-1) / np.maximum(1, occurs.sum(axis=-1))
        return 100 * means

    def library_score(
        self, predictions: Sequence[str | Sequence[str]], references: Sequence[str | Sequence[str]]
    ) -> float:
        from sklearn.metrics import f1_score

        if not len(references):
            return 0.0
        sides: list[Any] = [list(references), list(predictions)]
        options: dict[str, Any] = {"average": self.average, "zero_division": 0}
        if not all(isinstance(one, str) for one in (*references, *predictions)):
            from sklearn.preprocessing import MultiLabelBinarizer

            places = MultiLabelBinarizer(classes=self.labels, sparse_output=True).fit([])
            sides = [places.transform(map(one_or_more, side)) for side in sides]
            options["labels"] = np.flatnonzero(sum(side.sum(axis=0) for side in sides))
            if not len(options["labels"]):
                return 0.0
        return 100 * float(f1_score(*sides, **options))


def _f1(counts: np.ndarray) -> np.ndarray:
    """Return 2 right / (predicted + gold), 0 where both are 0: `(..., 3)` -> `(...)`."""
    right, predicted, gold = np.moveaxis(counts, -1, 0)
    both = predicted + gold
    return 2 * right / np.where(both > 0, both, 1)
