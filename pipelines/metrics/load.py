"""Build a metric by its name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from pipelines.errors import UserError
from pipelines.metrics.base import Metric
from pipelines.registry import catalog
from pipelines.registry.load import load_class


def load(module: str, options: Mapping[str, Any] | None = None) -> Metric:
    """Return the metric of `metrics/<module>.py`, built with `options` as stored in a run's manifest.

    Raises:
        UserError: no such file, or options that its metric does not take.
    """
    metric_class = _class_of(module)
    try:
        return metric_class(**(options or {}))
    except TypeError as error:
        raise UserError(f"metric {module!r}", f"cannot be built: {error}", dict(options or {})) from error


@cache
def _class_of(module: str) -> type[Metric]:
    """Return the class of a metric; a process imports it once, so its source is looked for once too."""
    known = catalog.names(catalog.METRIC)
    if module not in known:
        raise UserError(f"metric {module!r}", "there is no such metric", accepted=", ".join(known))
    return load_class(f"pipelines.metrics.{module}", Metric)
