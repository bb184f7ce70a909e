"""Every metric as an `evaluate.Metric`, offline. No other file imports evaluate."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate

from pipelines.metrics.base import Metric, StatisticsTable, total


class LibraryMetric(evaluate.Metric):
    """A metric behind evaluate's interface: `compute`, `add`, `add_batch`, `combine`, several processes.

    It scores with the metric's library over all pairs and never uses per-example statistics.
    Predictions and references go through evaluate's Arrow tables as JSON, so that one class works for the
    tags of NER and for the answer lists of question answering.

    Args:
        metric: what to compute; `compute` returns `{metric.name: points}` as plain floats.
        options: those of `evaluate.Metric`; pairs stay in memory unless `keep_in_memory` is false.
    """

    def __init__(self, metric: Metric, **options: Any) -> None:
        self.metric = metric
        options.setdefault("keep_in_memory", options.get("num_process", 1) == 1)
        if options["keep_in_memory"]:  # nothing is stored, but evaluate makes a folder anyway
            options.setdefault("cache_dir", tempfile.gettempdir())
        super().__init__(**options)

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=type(self.metric).__doc__ or self.metric.name,
            citation="",
            inputs_description=self.metric.signature,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def add(self, *, prediction: Any = None, reference: Any = None, **ignored: Any) -> None:
        """Add one pair."""
        super().add(prediction=_encode(prediction), reference=_encode(reference), **ignored)

    def add_batch(self, *, predictions: Sequence[Any], references: Sequence[Any], **ignored: Any) -> None:
        """Add several pairs."""
        encoded = [[_encode(item) for item in items] for items in (predictions, references)]
        super().add_batch(predictions=encoded[0], references=encoded[1], **ignored)

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        pairs = ([json.loads(item) for item in items] for items in (predictions, references))
        return {self.metric.name: float(self.metric.library_score(*pairs))}


def _encode(item: Any) -> str:
    return json.dumps(item, default=lambda array: array.tolist())


def reported_score(
    metric: Metric, predictions: Sequence[Any], references: Sequence[Any], statistics: StatisticsTable
) -> float:
    """Return the score that a run reports: computed by the library, checked against the stored statistics.

    Args:
        statistics: what `metric.table` gave.

    Raises:
        ArithmeticError: the two differ, so no number computed from the statistics could be trusted.
    """
    by_library = LibraryMetric(metric).compute(predictions=predictions, references=references)[metric.name]
    by_sum = float(metric.score(total(statistics)))
    # Equal bits, except where exp and log of numpy and of the C library round the last bit differently.
    if not math.isclose(by_library, by_sum, rel_tol=1e-12, abs_tol=1e-12) and by_library != by_sum:
        raise ArithmeticError(
            f"{metric.name}: {by_library!r} by {metric.signature}, {by_sum!r} from stored statistics"
        )
    return by_library
