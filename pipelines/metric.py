"""The contract of a metric: statistics per example that add up, and a score of their sum."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Any, ClassVar, Literal

import numpy as np

from pipelines.errors import UserError


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


def names() -> list[str]:
    """Names of the metric files, sorted; nothing is imported but the package."""
    folder = find_spec("pipelines.metrics").submodule_search_locations
    return sorted(item.name for item in iter_modules(folder) if item.name != "adapter")


def load(module: str, options: Mapping[str, Any] | None = None) -> Metric:
    """The metric of `metrics/<module>.py`, built with `options` as stored in a run's manifest.

    Raises:
        UserError: no such file, or options that its metric does not take.
    """
    if module not in names():
        raise UserError(f"metric {module!r}", "there is no such metric", accepted=", ".join(names()))
    found = import_module(f"pipelines.metrics.{module}")
    classes = [
        value
        for value in vars(found).values()
        if isinstance(value, type) and issubclass(value, Metric) and value.__module__ == found.__name__
    ]
    if len(classes) != 1:
        raise TypeError(f"metrics/{module}.py must define one Metric, it defines {len(classes)}")
    try:
        return classes[0](**(options or {}))
    except TypeError as error:
        raise UserError(f"metric {module!r}", f"cannot be built: {error}", dict(options or {})) from error
