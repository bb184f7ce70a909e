"""An ablation: arms x seeds x cells, run where missing, compared, reported."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from pipelines import compare, durable, report
from pipelines.config import AblationConfig
from pipelines.errors import Interrupted, RunFailed
from pipelines.executors.cell import Cell, Outcome
from pipelines.executors.local import run_cells
from pipelines.grid import plan_cells, print_plan, remember_folders
from pipelines.interruption import StopRequest, listening
from pipelines.registration import register, registration
from pipelines.results import RunFolder


def ablate_command(config: AblationConfig, out: str, jobs: int | None, fresh: bool, dry_run: bool) -> None:
    """`attnlab ablate`: run what is missing, compare, write the report into `out`.

    Raises:
        UserError: two arms are the same run, or runs that cannot be compared.
        RunFailed: no run finished, so there is nothing to compare.
        Interrupted: it was asked to stop; the same command goes on.
    """
    console = Console(stderr=True, highlight=False)
    folder = Path(out)
    cells = plan_cells(config, folder, fresh=fresh)
    if dry_run:
        print_plan(cells, console)
        return
    register(config, folder)
    remember_folders(cells, folder)
    with listening() as stop:
        outcomes = run_missing(cells, jobs or config.jobs or os.cpu_count() or 1, stop, console)
        if stop.requested:
            raise Interrupted(f"stopped by {stop.signal_name}; start the same command again to go on")
    finished = [cell for cell in cells if outcomes[cell].status == "finished"]
    if not finished:
        raise RunFailed(f"{folder}: no run finished; the first: {outcomes[cells[0]].reason}")
    results = write_results(config, outcomes, folder)
    report.print_table(results, Console(highlight=False), folder)
    free_disk(config, finished)
    console.print(f"report: {folder / 'report.html'}", markup=False, soft_wrap=True)


def run_missing(cells: Sequence[Cell], jobs: int, stop: StopRequest, console: Console) -> dict[Cell, Outcome]:
    """Run the cells that are not over yet; how every cell of the grid ended."""
    outcomes = {cell: ended_before(cell) for cell in cells}
    missing = [cell for cell in cells if outcomes[cell] is None]
    before = len(cells) - len(missing)
    console.print(
        f"{len(cells)} runs, {before} ended before, {min(jobs, len(missing))} at a time",
        markup=False,
        soft_wrap=True,
    )
    begun, done = time.monotonic(), 0

    def on_outcome(cell: Cell, outcome: Outcome) -> None:
        nonlocal done
        done += 1
        outcomes[cell] = outcome
        left = (time.monotonic() - begun) / done * (len(missing) - done)
        ending = f": {outcome.reason}" if outcome.reason else ""
        console.print(
            f"[{done}/{len(missing)}] {cell.label}: {outcome.status}{ending} (about {left:.0f} s left)",
            markup=False,
            soft_wrap=True,
        )

    if missing:
        threads = max(cell.config["threads"] for cell in missing)
        run_cells(missing, jobs=jobs, threads=threads, stop=stop, on_outcome=on_outcome)
    return outcomes


def ended_before(cell: Cell) -> Outcome | None:
    """How a cell ended in an earlier start; None while it is still to be run."""
    manifest = RunFolder(cell.folder).manifest()
    if manifest is None:
        return None
    if manifest["status"] == "diverged":
        return Outcome("diverged", f"loss or gradient not finite at step {manifest['diverged_at']}")
    return Outcome(manifest["status"])


def write_results(config: AblationConfig, outcomes: dict[Cell, Outcome], folder: Path) -> dict[str, Any]:
    """Compare the finished runs and write results.json and the reports."""
    runs = {
        (cell.cell, cell.arm, cell.seed): cell.folder
        for cell, outcome in outcomes.items()
        if outcome.status == "finished"
    }
    failures = [
        {
            "cell": cell.cell,
            "arm": cell.arm,
            "seed": cell.seed,
            "run": cell.folder.name,
            "status": outcome.status,
            "step": (RunFolder(cell.folder).manifest() or {}).get("diverged_at"),
            "reason": outcome.reason,
        }
        for cell, outcome in outcomes.items()
        if outcome.status != "finished"
    ]
    results = compare.build(config.to_dict(), runs, failures, registration(config, folder), folder)
    durable.write_json(folder / "results.json", results)
    report.write(results, folder)
    return results


def free_disk(config: AblationConfig, finished: Sequence[Cell]) -> None:
    """Keep the models the ablation asks for: all, the best seed of each arm, or none."""
    if config.keep == "model":
        return
    best: dict[tuple[str, str], Cell] = {}
    for cell in finished if config.keep == "best_seed" else ():
        rival = best.setdefault((cell.cell, cell.arm), cell)
        if _selection_score(cell) > _selection_score(rival):
            best[cell.cell, cell.arm] = cell
    for cell in finished:
        if cell not in best.values():
            RunFolder(cell.folder).drop_model()


def _selection_score(cell: Cell) -> float:
    """The validation score that chose the run's checkpoint, signed so that more is better."""
    manifest = RunFolder(cell.folder).manifest()
    score = manifest["scores"].get("validation", {}).get(manifest["primary"], 0.0)
    return score if manifest["metrics"][manifest["primary"]]["higher_is_better"] else -score
