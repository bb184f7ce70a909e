"""CPU seconds, memory and page sizes of status, report and push as classes, rows, arms and runs grow."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from pipelines.ablation.cell import Cell
from pipelines.ablation.grid import plan_cells, remember_folders
from pipelines.ablation.preregistration import register
from pipelines.config.load import AblationConfig, RunConfig, run_from_dict
from pipelines.metrics.load import load
from pipelines.runs import identity
from scripts.benchmarks import cases
from scripts.benchmarks.table import Table
from tests.pipelines import stored_ablation

WRONG = 0.3  # share of the predictions
STATUS, REPORT, MEMORY = 2.0, 60.0, 2.0  # most CPU seconds of each; most GB


@dataclass(frozen=True)
class Size:
    """An ablation of one cell for each 200 runs: its size, and the most CPU seconds of report and of push."""

    classes: int
    rows: int
    arms: int
    runs: int
    most: float = REPORT

    def __str__(self) -> str:
        return f"{self.classes} classes, {self.rows} rows, {self.arms} arms, {self.runs} runs"


SIZES = (
    Size(100, 4_000, 2, 4),
    Size(2_000, 4_000, 2, 4),
    Size(100, 100_000, 2, 4, most=120.0),
    Size(2_000, 100_000, 2, 4, most=180.0),
    Size(2_000, 100_000, 2, 8, most=300.0),
    Size(5, 200, 10, 30),
    Size(5, 200, 50, 150),
    Size(5, 60, 20, 200),
    Size(5, 60, 20, 1_000),
)


def run() -> Table:
    """Measure each size in a fresh process, so that its memory is its own; the runs are made up."""
    rows, records = [], []
    for size in (size for size in SIZES if cases.chosen in str(size)):
        print(f"{size} ...", file=sys.stderr, flush=True)
        command = [
            sys.executable,
            "-c",
            f"from scripts.benchmarks import report; report.once({astuple(size)})",
        ]
        found = subprocess.run(
            command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2]
        )
        status, report, push, memory, page = map(float, found.stdout.splitlines()[-1].split())
        met = status <= STATUS and report <= size.most and push <= size.most and memory <= MEMORY
        limits = f"{STATUS:g} s, {size.most:g} s, {MEMORY:g} GB {'met' if met else 'MISSED'}"
        sizes = (f"{one:,}" for one in (size.classes, size.rows, size.arms, size.runs))
        rows.append(
            (*sizes, f"{status:.2f}", f"{report:.1f}", f"{push:.1f}", f"{memory:.2f}", f"{page:.2f}", limits)
        )
        records.append(
            {"size": str(size), "status": status, "report": report, "push": push}
            | {"gigabytes": memory, "page_megabytes": page, "met": met}
        )
    columns: tuple[str, ...] = (
        "classes",
        "rows",
        "arms",
        "runs",
        "status, s",
        "report, s",
        "push --dry-run, s",
        "GB",
    )
    columns += ("report.html, MB", "budget")
    return Table(columns, rows, records, all_met=all(record["met"] for record in records))


def once(values: Sequence[Any]) -> None:
    """Write a made-up ablation; print CPU seconds of three commands, peak memory and the size of the page."""
    from pipelines.cli.main import main

    size = Size(*values)
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "large")
        config = ablation_of(size)
        register(config, folder)
        planned = plan_cells(config, folder)
        remember_folders(planned, folder)
        make_up(planned, size)
        spent = []
        for command in (["status"], ["report"], ["push"]):
            begun = time.process_time()
            rest = ["org/name", "--dry-run"] if command == ["push"] else []
            status = main([*command, str(folder), *rest])
            assert status == 0, command
            spent.append(time.process_time() - begun)
        page = (folder / "report.html").stat().st_size / 1e6
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(*spent, memory, page)


def ablation_of(size: Size) -> AblationConfig:
    """Return an ablation of this size; it is never trained."""
    arms = {f"rate{n}": {"attention": [], "set": {"learning_rate": 1e-6 * n}} for n in range(1, size.arms)}
    num_cells = max(1, size.runs // 200)
    run = stored_ablation.RUN | {"task": "text_classification"}
    cells = {f"cell{n}": run | {"batch_size": 4 + n} for n in range(num_cells)}
    seeds = list(range(1, size.runs // num_cells // size.arms + 1))
    values = {"cells": cells, "arms": {"stock": []} | arms, "seeds": seeds}
    primary = {"text_classification": "accuracy"}
    return AblationConfig.model_validate(values | {"primary": primary, "margin": {"accuracy": 0.5}})


def make_up(planned: Sequence[Cell], size: Size) -> None:
    """Write the files of a finished run, without its model, for every planned run."""
    for place, cell in enumerate(planned):
        wanted: RunConfig = run_from_dict(cell.config)
        evaluation = classified(size.classes, size.rows, place)
        stored_ablation.finish(cell.folder, wanted, identity.describe(wanted), evaluation=evaluation)
        shutil.rmtree(cell.folder / "model")
        stored_ablation.list_again(cell.folder)


def classified(num_labels: int, num_rows: int, place: int) -> SimpleNamespace:
    """Return the made-up evaluation of a classifier: labels drawn, and so many predictions wrong."""
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
    tables = {name: metric.table(*sides) for name, metric in metrics.items()}
    return SimpleNamespace(
        ids=ids, clusters=ids, predictions=sides[0], references=sides[1], metrics=metrics, statistics=tables
    )
