"""Build a metric by its name."""

from __future__ import annotations

from collections.abc import Mapping
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
    known = catalog.names(catalog.METRIC)
    if module not in known:
        raise UserError(f"metric {module!r}", "there is no such metric", accepted=", ".join(known))
    metric_class: type[Metric] = load_class(f"pipelines.metrics.{module}", Metric)
    try:
        return metric_class(**(options or {}))
    except TypeError as error:
        raise UserError(f"metric {module!r}", f"cannot be built: {error}", dict(options or {})) from error
