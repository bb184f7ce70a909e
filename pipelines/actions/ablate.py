"""An ablation: arms x seeds x cells, run where missing, compared, reported."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from pipelines import report
from pipelines.ablation import results as rebuild
from pipelines.ablation.cell import Cell, Executor, Outcome, outcome_of
from pipelines.ablation.dry_run import print_plan
from pipelines.ablation.folder import open_ablation, rates_of
from pipelines.ablation.grid import plan_cells, plan_tries, remember_folders
from pipelines.ablation.preregistration import register
from pipelines.ablation.search import judge
from pipelines.config.load import AblationConfig
from pipelines.distributed.stop import StopRequest, listening
from pipelines.errors import Interrupted, RunFailed
from pipelines.executors import cancellation
from pipelines.executors.select import executor_of
from pipelines.models.starting_point import pinned_ablation
from pipelines.storage import atomic
from pipelines.storage.atomic import read_json
from pipelines.storage.names import FAILURE, REPORT, RUNS, SEARCH
from pipelines.storage.run_folder import RunFolder


def ablate_command(
    config: AblationConfig,
    out: str,
    *,
    jobs: int | None = None,
    executor: str | None = None,
    fresh: bool = False,
    dry_run: bool = False,
    prepare: bool = False,
) -> None:
    """`attnlab ablate`: run what is missing, compare, write the report into `out`.

    Args:
        jobs: runs side by side on this machine.
        executor: where the runs are made; None: as the ablation says.
        dry_run: only say what would be run.
        prepare: only write down what is to be run, for an engine that calls `attnlab run-cell`.

    Raises:
        UserError: two arms are the same run, or runs that cannot be compared.
        RunFailed: no run finished, so there is nothing to compare.
        Interrupted: it was asked to stop; the same command goes on.
    """
    console = Console(stderr=True, highlight=False)
    folder, config = Path(out), pinned_ablation(config)
    place = executor_of(config, folder, partial(_say, console), name=executor, jobs=jobs)
    tries = plan_tries(config, folder, fresh=fresh) if config.search else []
    before = rates_of(read_json(folder / SEARCH)) if tries and (folder / SEARCH).exists() else {}
    plan = partial(plan_cells, config, folder, fresh=fresh, tries=tries)
    cells = plan(rates=before) if before or not tries else []
    if dry_run:
        earlier = open_ablation(folder).cells if (folder / RUNS).exists() else ()
        every = {cell.folder: cell for cell in (*tries, *cells)}
        print_plan(list(every.values()), config, place.at_a_time, console, earlier)
        return
    register(config, folder, [*tries, *cells])
    cancellation.revoke(folder)
    if prepare:
        remember_folders([*tries, *cells], folder)
        print_commands(cells or tries, folder)
        return
    with listening() as stop:
        if tries:
            remember_folders([*tries, *cells], folder)
            cells = plan(rates=search(config, tries, folder, place, stop, console))
        remember_folders([*tries, *cells], folder)
        outcomes = run_missing(cells, place, stop, console)
    finished = [cell for cell in cells if outcomes[cell].status == "finished"]
    if not finished:
        raise RunFailed(f"{folder}: no run finished; the first: {outcomes[cells[0]].reason}")
    results = rebuild.results_of([rebuild.Ended(config, outcomes, folder)], folder)
    rebuild.write(results, folder)
    report.print_table(results, Console(highlight=False), folder)
    free_disk(config, finished)
    in_grid = {cell.folder for cell in cells}
    drop_models([cell for cell in tries if cell.folder not in in_grid])
    _say(console, f"report: {folder / REPORT}")


def search(
    config: AblationConfig,
    tries: Sequence[Cell],
    folder: Path,
    executor: Executor,
    stop: StopRequest,
    console: Console,
) -> dict[tuple[str, str], float]:
    """Run the search, write its record, and return the learning rate of every cell and arm."""
    _say(console, "searching learning rates, the same for every arm")
    record = judge(config, run_missing(tries, executor, stop, console))
    atomic.write_json(folder / SEARCH, record)
    for cell, arms in record["cells"].items():
        for arm, found in arms.items():
            text = f"{cell} / {arm}: learning rate {found['chosen']:g} ({found['reason']})"
            _say(console, text)
    return rates_of(record)


def print_commands(cells: Sequence[Cell], folder: Path) -> None:
    """One command for every run that is missing, for whatever is to call them."""
    for cell in cells:
        if ended_before(cell) is None:
            print(f"attnlab run-cell {folder} {cell.folder.name}")
    print("when they are over, start the same command without --prepare for the report", file=sys.stderr)


def run_missing(
    cells: Sequence[Cell], executor: Executor, stop: StopRequest, console: Console
) -> dict[Cell, Outcome]:
    """Run the cells that are not over yet; how every cell of the grid ended.

    Raises:
        Interrupted: it was asked to stop.
    """
    outcomes = {cell: ended_before(cell) for cell in cells}
    missing = [cell for cell in cells if outcomes[cell] is None]
    before = len(cells) - len(missing)
    at_a_time = min(executor.at_a_time or len(missing), len(missing))
    _say(console, f"{len(cells)} runs, {before} ended before, {at_a_time} at a time")
    begun, done = time.monotonic(), 0

    def on_outcome(cell: Cell, outcome: Outcome) -> None:
        nonlocal done
        done += 1
        if stop.requested and outcome.status == "failed" and not (cell.folder / FAILURE).exists():
            outcome = Outcome("interrupted", "asked to stop")  # the signal reached its fork server too
        remember_failure(cell, outcome)
        outcomes[cell] = outcome_of(cell) if outcome.status != "interrupted" else outcome
        left = (time.monotonic() - begun) / done * (len(missing) - done)
        ending = f": {outcome.reason}" if outcome.reason else ""
        _say(
            console,
            f"[{done}/{len(missing)}] {cell.label}: {outcome.status}{ending} (about {left:.0f} s left)",
        )

    if missing:
        executor.run(missing, stop=stop, on_outcome=on_outcome)
    if stop.requested:
        raise Interrupted(f"stopped by {stop.signal_name}; {executor.when_stopped}")
    if cancellation.is_cancelled(cells[0].ablation):
        raise Interrupted("cancelled by attnlab status --cancel; start the same command again to go on")
    return outcomes


def remember_failure(cell: Cell, outcome: Outcome) -> None:
    """Leave a word of how a run failed where it could not do so itself: a killed process says nothing."""
    failure = cell.folder / FAILURE
    if outcome.status == "failed" and not failure.exists():
        cell.folder.mkdir(parents=True, exist_ok=True)
        failure.write_text(f"{outcome.reason}\n", encoding="utf-8")


def ended_before(cell: Cell) -> Outcome | None:
    """How a cell ended in an earlier start; None while it is still to be run."""
    return outcome_of(cell) if RunFolder(cell.folder).manifest() else None


def free_disk(config: AblationConfig, finished: Sequence[Cell]) -> None:
    """Keep the models the ablation asks for: all, the best seed of each arm, or none."""
    if config.keep == "model":
        return
    best: dict[tuple[str, str], Cell] = {}
    for cell in finished if config.keep == "best_seed" else ():
        rival = best.setdefault((cell.cell, cell.arm), cell)
        if _selection_score(cell) > _selection_score(rival):
            best[cell.cell, cell.arm] = cell
    drop_models([cell for cell in finished if cell not in best.values()])


def drop_models(cells: Sequence[Cell]) -> None:
    """Free the weights of runs whose results are all that is wanted."""
    for cell in cells:
        RunFolder(cell.folder).drop_model()


def _selection_score(cell: Cell) -> float:
    score = RunFolder(cell.folder).validation_score()
    return 0.0 if score is None else score


def _say(console: Console, sentence: str) -> None:
    console.print(sentence, markup=False, soft_wrap=True)
