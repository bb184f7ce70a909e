"""CPU seconds of the statistics of a comparison: 5 seeds x 2,000 examples, 10,000 resamples, every metric."""

from __future__ import annotations

import statistics as descriptive
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pipelines.comparison import significance
from pipelines.metrics import load
from pipelines.metrics.base import Metric, comparable
from pipelines.registry import catalog
from scripts.benchmarks.table import Table, with_range

SEEDS, EXAMPLES, REPETITIONS = 5, 2_000, 7
OPTIONS = {"classification_f1": {"labels": ["a", "b", "c"]}}  # of metrics that have no default
JACKKNIFE, RESAMPLING, ALL = (
    "jackknife, the slowest metric",
    "resamples and their scores, all metrics at once",
    "all of it",
)
BUDGETS = {JACKKNIFE: 0.1, ALL: 10.0}  # CPU seconds


def run() -> Table:
    """Time a comparison of made-up statistics: it depends on their number, not on their values."""
    metrics = [load.load(name, OPTIONS.get(name)) for name in catalog.names(catalog.METRIC)]
    generator = np.random.default_rng(0)
    sides = {one: generator.integers(1, 30, (2, SEEDS, EXAMPLES, len(one.columns))) for one in metrics}
    times: dict[str, list[float]] = {}
    for _ in range(REPETITIONS):
        for what, taken in once(sides).items():
            times.setdefault(what, []).append(taken)
    rows, records = [], []
    for what, all_taken in times.items():
        budget = BUDGETS.get(what)
        met = None if budget is None else descriptive.median(all_taken) <= budget
        verdict = "–" if budget is None else f"{budget:g} {'met' if met else 'MISSED'}"
        rows.append((what, with_range(all_taken), verdict))
        records.append({"what": what, "cpu_seconds": all_taken, "budget": budget, "met": met})
    columns = ("what", f"CPU seconds of {len(metrics)} metrics, median (range)", "budget")
    return Table(columns, rows, records, all_met=all(record["met"] is not False for record in records))


def once(sides: Mapping[Metric, np.ndarray]) -> dict[str, float]:
    """Time one comparison by every metric, part by part."""
    values = {one: comparable(one) for one in sides}
    jackknives = {one: seconds(significance.two_way, *both, values[one])[0] for one, both in sides.items()}
    tables = {
        (one, side, seed): run
        for one, both in sides.items()
        for side, runs in enumerate(both)
        for seed, run in enumerate(runs)
    }
    resampling, found = seconds(
        significance.resampled_values, tables, {key: values[key[0]] for key in tables}
    )
    bootstraps = {}
    for one in sides:
        arms = [np.stack([found[one, side, seed] for seed in range(SEEDS)], axis=1) for side in (0, 1)]
        bootstraps[one], _ = seconds(significance.bootstrap, *arms)
    return {
        JACKKNIFE: max(jackknives.values()),
        "jackknife, all metrics": sum(jackknives.values()),
        RESAMPLING: resampling,
        "histograms, all metrics": sum(bootstraps.values()),
        ALL: sum(jackknives.values()) + resampling + sum(bootstraps.values()),
    }


def seconds(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Return the CPU seconds of one call, and its result."""
    begun = time.process_time()
    result = function(*arguments)
    return time.process_time() - begun, result
