"""CPU seconds and memory of a comparison of label statistics, as labels, rows, arms and seeds grow."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks import cases
from benchmarks.table import Table
from pipelines.comparison import compare
from pipelines.metrics.load import load
from pipelines.storage.run_folder import RunFolder

# labels, rows, arms, seeds -> most CPU seconds
CASES = {
    (100, 4_000, 2, 2): 5.0,
    (500, 4_000, 2, 2): 10.0,
    (2_000, 4_000, 2, 2): 20.0,
    (2_000, 16_000, 2, 2): 40.0,
    (2_000, 4_000, 4, 2): 40.0,
    (2_000, 4_000, 2, 8): 80.0,
    (2_000, 100_000, 2, 2): 180.0,
}
MOST_MEMORY = 2.0  # GB
WRONG = 0.3  # share of the predictions


def run() -> Table:
    """Compare made-up runs in a fresh process for each case, so that its memory is its own."""
    rows, records = [], []
    for case, budget in CASES.items():
        if cases.chosen not in "{} labels, {} rows, {} arms, {} seeds".format(*case):
            continue
        command = [sys.executable, "-c", f"from benchmarks import labels; labels.once(*{case})"]
        found = subprocess.run(
            command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1]
        )
        seconds, memory = map(float, found.stdout.split())
        met = seconds <= budget and memory <= MOST_MEMORY
        limits = f"{budget:g} s, {MOST_MEMORY:g} GB {'met' if met else 'MISSED'}"
        rows.append((*(f"{one:,}" for one in case), f"{seconds:.1f}", f"{memory:.2f}", limits))
        records.append({"case": case, "cpu_seconds": seconds, "gigabytes": memory, "met": met})
    columns = ("labels", "rows", "arms", "seeds", "CPU seconds", "GB", "budget")
    return Table(columns, rows, records, all_met=all(record["met"] for record in records))


def once(num_labels: int, num_rows: int, num_arms: int, num_seeds: int) -> None:
    """Write made-up runs, compare them, and print CPU seconds and the peak of memory in GB."""
    arms, seeds = [f"arm {place}" for place in range(num_arms)], list(range(num_seeds))
    cell = {"task": {"name": "text_classification"}, "model": {"name": "none"}}
    ablation = {"cells": {"made up": cell}, "arms": arms, "baseline": arms[0], "seeds": seeds}
    with tempfile.TemporaryDirectory() as folder:
        runs = {("made up", arm, seed): Path(folder, arm, str(seed)) for arm in arms for seed in seeds}
        for place, path in enumerate(runs.values()):
            _write(path, num_labels, num_rows, place)
        begun = time.process_time()
        compare.build(ablation | {"primary": {}, "margin": {}}, runs)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(time.process_time() - begun, memory)


def _write(path: Path, num_labels: int, num_rows: int, place: int) -> None:
    names = [f"label {number}" for number in range(num_labels)]
    gold = np.random.default_rng(0).integers(0, num_labels, num_rows)
    chance = np.random.default_rng([1, place])
    drawn = chance.integers(0, num_labels, num_rows)
    found = np.where(chance.random(num_rows) < WRONG, drawn, gold)
    sides = [[names[number] for number in side] for side in (found, gold)]
    metrics = {
        "accuracy": load("accuracy"),
        "f1_macro": load("classification_f1", {"labels": names}),
        "f1_micro": load("classification_f1", {"labels": names, "average": "micro"}),
    }
    ids = [str(row) for row in range(num_rows)]
    tables: dict[str, Any] = {name: metric.table(*sides) for name, metric in metrics.items()}
    scored = SimpleNamespace(
        ids=ids, clusters=ids, predictions=sides[0], references=sides[1], metrics=metrics, statistics=tables
    )
    path.mkdir(parents=True)
    folder = RunFolder(path)
    folder.write_evaluation("test", scored)
    described = {
        name: {"module": metric.module, "options": metric.options, "columns": list(metric.columns)}
        | {"signature": metric.signature, "higher_is_better": metric.higher_is_better}
        for name, metric in metrics.items()
    }
    folder.finish(
        {"status": "finished", "config": {}, "metrics": described, "primary": "accuracy"}
        | {"environment": {}}
    )
