"""CPU seconds of planning, status, statistics and report for ablations of 1,000 and 200 finished runs."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from benchmarks.table import Table
from pipelines.ablation.cell import Cell
from pipelines.ablation.folder import open_ablation
from pipelines.ablation.grid import plan_cells, remember_folders
from pipelines.ablation.preregistration import register
from pipelines.ablation.results import ended_ablation, results_of, write
from pipelines.config.load import AblationConfig, run_from_dict
from pipelines.executors.run_state import run_states
from pipelines.runs import identity
from tests.pipelines import stored_ablation

T = TypeVar("T")
SIZES = (200, 1000)
ARMS, SEEDS = 20, 10
FACTOR = 1.5  # more than that beyond the ratio of the sizes is not linear any more


def run() -> Table:
    """Time the own part of each command; the runs are made up, with 60 test examples each."""
    found = {}
    for size in SIZES:
        print(f"{size} runs ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            found[size] = _measured(size, Path(folder))
    rows, records = [], []
    for what in found[SIZES[0]]:
        few, many = (found[size][what] for size in SIZES)
        linear = many <= FACTOR * few * SIZES[1] / SIZES[0]
        rows.append((what, f"{few:.2f}", f"{many:.2f}", f"{many / few:.1f}x {'met' if linear else 'MISSED'}"))
        records.append({"what": what, **{str(size): found[size][what] for size in SIZES}, "met": linear})
    columns = (
        "what",
        *(f"CPU seconds, {size:,} runs" for size in SIZES),
        f"ratio; linear is {SIZES[1] / SIZES[0]:g}x",
    )
    return Table(columns, rows, records, all_met=all(record["met"] for record in records))


def _measured(size: int, root: Path) -> Mapping[str, float]:
    config, folder, spent = large_ablation(size), root / "large", {}
    register(config, folder)

    def timed(what: str, do: Callable[[], T]) -> T:
        begun = time.process_time()
        result = do()
        spent[what] = time.process_time() - begun
        return result

    planned = timed("plan: hash and place every run", lambda: plan_cells(config, folder))
    remember_folders(planned, folder)
    make_up_results(planned)
    timed("status: read every run's state", lambda: run_states(open_ablation(folder)))
    ended = ended_ablation(folder)
    results = timed("report: statistics of all comparisons", lambda: results_of([ended], folder))
    timed("report: md, html, tex, pictures", lambda: write(results, folder))
    return spent


def large_ablation(size: int) -> AblationConfig:
    """Return an ablation of so many runs; it is never trained."""
    arms = {f"rate{n}": {"attention": [], "set": {"learning_rate": 1e-6 * n}} for n in range(1, ARMS)}
    cells = {f"cell{n}": stored_ablation.RUN | {"batch_size": 4 + n} for n in range(size // ARMS // SEEDS)}
    values = {"cells": cells, "arms": {"stock": []} | arms, "seeds": list(range(1, SEEDS + 1))}
    return AblationConfig.model_validate(values | {"primary": {"ner": "f1"}, "margin": {"f1": 0.5}})


def make_up_results(planned: Sequence[Cell]) -> None:
    """Write the files of a finished run, without its model, for every planned run."""
    for cell in planned:
        wanted = run_from_dict(cell.config)
        stored_ablation.finish(cell.folder, wanted, identity.describe(wanted))
