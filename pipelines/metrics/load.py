"""Build a metric by its name."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from pipelines.errors import UserError
from pipelines.metrics.base import Metric, names


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
