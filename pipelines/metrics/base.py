"""The contract of a metric: statistics per example that add up, and a score of their sum."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Any, ClassVar, Literal

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
    scale: Literal["linear", "log"] = "linear"  # "log": arms are compared by the ratio of their scores

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

    @abstractmethod
    def library_score(self, predictions: Sequence[Any], references: Sequence[Any]) -> float:
        """The same score by the metric's library over whole lists; it never looks at `statistics`."""


def total(statistics: np.ndarray) -> np.ndarray:
    """Column sums of `(examples, columns)`, correctly rounded: the order of examples never matters."""
    return np.array([math.fsum(column) for column in np.asarray(statistics, dtype=np.float64).T])


def comparable(metric: Metric) -> Callable[[np.ndarray], np.ndarray]:
    """Summed statistics to the value that is compared: more is better, log scales in hundredths.

    A difference of 1 on a log scale is a factor of exp(0.01), about one per cent.
    """
    sign = 1 if metric.higher_is_better else -1

    def value(sums: np.ndarray) -> np.ndarray:
        score = metric.score(sums)
        if metric.scale == "linear":
            return sign * score
        with np.errstate(divide="ignore"):
            return sign * 100 * np.log(score)

    return value


def one_or_more(reference: str | Sequence[str]) -> list[str]:
    """The references of one example as a list: data holds one text, or several."""
    return [reference] if isinstance(reference, str) else list(reference)


def names() -> list[str]:
    """Names of the metric files, sorted; nothing is imported but the package."""
    folder = find_spec("pipelines.metrics").submodule_search_locations
    return sorted(item.name for item in iter_modules(folder) if item.name != "adapter")


def ratio(sums: np.ndarray, unit: float = 1.0) -> np.ndarray:
    """`unit` times the first summed statistic over the second; 0 where there is nothing to divide by."""
    above, below = np.moveaxis(np.asarray(sums, dtype=np.float64), -1, 0)
    return unit * np.where(below > 0, above / np.where(below > 0, below, 1), 0.0)


def mean(values: Sequence[float], unit: float = 1.0) -> float:
    """`unit` times the correctly rounded mean; 0 of nothing."""
    return unit * (math.fsum(values) / len(values)) if values else 0.0
