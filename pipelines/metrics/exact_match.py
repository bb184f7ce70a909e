"""Share of examples whose labels are exactly right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.metrics.base import Metric, ratio


class ExactMatch(Metric):
    """Examples whose set of labels is the reference's over all examples, 0-100 (subset accuracy)."""

    name = "exact_match"
    columns = ("right", "count")

    @property
    def signature(self) -> str:
        return "exact_match|labels:set"

    def statistics(self, prediction: Sequence[str], reference: Sequence[str]) -> np.ndarray:
        return np.array([set(prediction) == set(reference), 1], dtype=np.float64)

    def score(self, sums: np.ndarray) -> np.ndarray:
        return ratio(sums, 100)

    def library_score(
        self, predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]
    ) -> float:
        from sklearn.metrics import accuracy_score
        from sklearn.preprocessing import MultiLabelBinarizer

        if not len(references):
            return 0.0
        places = MultiLabelBinarizer(sparse_output=True).fit([*predictions, *references])
        return 100 * float(accuracy_score(places.transform(references), places.transform(predictions)))
