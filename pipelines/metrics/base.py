"""The contract of a metric: statistics per example that add up, and a score of their sum."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy.sparse import csr_array, issparse

# Statistics `(examples, columns)`: a row for each example. Sparse where a metric has columns for every label
# and an example touches those of one or two.
StatisticsTable: TypeAlias = np.ndarray | csr_array


class Metric(ABC):
    """A score of a set of examples that depends on them only through a sum of per-example statistics.

    Everything after training rests on this property: corpus scores, jackknife and bootstrap sum the same
    stored array again, so none of them needs a model.
    """

    name: str  # "f1"; unique within a task
    columns: tuple[str, ...]  # names of the statistics, such as ("true_positives", "predicted", "gold")
    is_sparse: bool = False  # its table is sparse, and so is the stored one
    higher_is_better: bool = True
    # "log": arms are compared by the ratio of their scores; "own": a score that is not in points of 100
    scale: Literal["linear", "log", "own"] = "linear"

    @property
    @abstractmethod
    def signature(self) -> str:
        """Return everything that changes the score, in one line: library, version, options."""

    @property
    def module(self) -> str:
        """Return the name of the file under `metrics/`, from which a stored run builds this metric again."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def options(self) -> dict[str, Any]:
        """Return the constructor arguments that rebuild this metric; each is kept under its name."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @abstractmethod
    def statistics(self, prediction: Any, reference: Any) -> np.ndarray:
        """Return the statistics of one example, float64, shape `(len(columns),)`."""

    def table(self, predictions: Sequence[Any], references: Sequence[Any]) -> StatisticsTable:
        """Return the statistics of every example, `(examples, len(columns))`."""
        rows = [self.statistics(p, r) for p, r in zip(predictions, references, strict=True)]
        return np.stack(rows) if rows else np.zeros((0, len(self.columns)))

    @abstractmethod
    def score(self, sums: np.ndarray) -> np.ndarray:
        """Return the score (0-100, or in its own unit) of sums `(..., len(columns))` -> `(...)`."""

    @abstractmethod
    def library_score(self, predictions: Sequence[Any], references: Sequence[Any]) -> float:
        """Return the same score, computed by the metric's library over whole lists without `statistics`."""

    def note(self, references: Sequence[Any]) -> str | None:
        """Return why this metric misjudges texts like these, as a clause; None if it does not."""
        return None


def notes(metrics: Mapping[str, Metric], references: Sequence[Any]) -> list[str]:
    """Return what metrics say of some references, each with the names of those that say it."""
    said: dict[str, list[str]] = {}
    for name, metric in metrics.items():
        if note := metric.note(references):
            said.setdefault(note, []).append(name)
    return [f"{', '.join(names)}: {note}" for note, names in said.items()]


def total(statistics: Any) -> np.ndarray:
    """Return the column sums of `(examples, columns)`, correctly rounded, whatever the order of examples."""
    if not issparse(statistics):
        return np.array([math.fsum(column) for column in np.asarray(statistics, dtype=np.float64).T])
    by_column = statistics.tocsc()
    columns = np.split(by_column.data, by_column.indptr[1:-1])
    return np.array([math.fsum(column) for column in columns])


def comparable(metric: Metric) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from summed statistics to the compared value: higher is better, logs times 100.

    A difference of 1 on a log scale is a factor of exp(0.01), about one per cent.
    """
    sign = 1 if metric.higher_is_better else -1

    def value(sums: np.ndarray) -> np.ndarray:
        score = metric.score(sums)
        if metric.scale != "log":
            return sign * score
        with np.errstate(divide="ignore"):
            return sign * 100 * np.log(score)

    return value


def one_or_more(reference: str | Sequence[str]) -> list[str]:
    """Return the references of one example as a list; data holds one text or several."""
    return [reference] if isinstance(reference, str) else list(reference)


def best_of(scores: Mapping[str, float], higher_is_better: bool) -> tuple[str, float]:
    """Return the name and the score that is best, the first of several."""
    return max(scores.items(), key=lambda pair: pair[1] if higher_is_better else -pair[1])


def ratio(sums: np.ndarray, unit: float = 1.0) -> np.ndarray:
    """Return `unit` times the first summed statistic over the second; 0 where the second is 0."""
    above, below = np.moveaxis(np.asarray(sums, dtype=np.float64), -1, 0)
    return unit * np.where(below > 0, above / np.where(below > 0, below, 1), 0.0)


def mean(values: Sequence[float], unit: float = 1.0) -> float:
    """Return `unit` times the correctly rounded mean; 0 for no values."""
    return unit * (math.fsum(values) / len(values)) if values else 0.0
