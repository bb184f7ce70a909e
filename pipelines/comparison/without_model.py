"""Runs that score no better than what needs no model: they learned nothing that their data does not give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from pipelines.metrics.base import best_of
from pipelines.shown import plural


class BaselineRecord(TypedDict):
    """The scores of a task's baselines without a model, as a manifest holds them."""

    split: str
    num_examples: int  # the first ones of the split
    scores: dict[str, dict[str, float]]  # baseline -> metric -> score


def lowest(manifest: Mapping[str, Any], metric: str, higher_is_better: bool) -> float | None:
    """Return what the weakest baseline without a model scores by a metric; None where none was scored.

    It is what a model that learned nothing falls to: such a model need not be the best one without learning.
    """
    record = manifest.get("baselines")
    scores = [found[metric] for found in record["scores"].values() if metric in found] if record else []
    return (min if higher_is_better else max)(scores, default=None)


def note(manifests: Sequence[Mapping[str, Any]]) -> str | None:
    """Return which of some runs of one arm are no better than without a model, as a clause; None: none is."""
    found = [one for one in map(_behind, manifests) if one is not None]
    if not found:
        return None
    several = f"{len(found)} of {len(manifests)} runs: " if len(manifests) > 1 else ""
    return several + found[0]


def _behind(manifest: Mapping[str, Any]) -> str | None:
    record, metric = manifest.get("baselines"), manifest["primary"]
    scores = manifest["scores"].get(record["split"], {}) if record else {}
    if record is None or metric not in scores:
        return None
    sign = 1 if manifest["metrics"][metric]["higher_is_better"] else -1
    by_name = {name: found[metric] for name, found in record["scores"].items()}
    name, least = best_of(by_name, sign > 0)
    if sign * scores[metric] > sign * least:
        return None
    return (
        f"{record['split']} {metric} {scores[metric]:.2f} is no better than without a model "
        f"({name}: {least:.2f} on {plural(record['num_examples'], 'example')})"
    )
