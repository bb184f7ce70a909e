"""`attnlab ablate`: run the missing runs of an ablation, compare the arms, write the report."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipelines import report
from pipelines.ablation import anchor, looks, results
from pipelines.ablation.at_url import AblationAtUrl, at_url, refuse_other_store
from pipelines.ablation.best_seed import best_seeds
from pipelines.ablation.cell import Cell, Executor, Outcome, outcome_of
from pipelines.ablation.cost import duration
from pipelines.ablation.dry_run import print_plan
from pipelines.ablation.folder import open_ablation
from pipelines.ablation.grid import Key, plan_cells, plan_tries, remember_folders
from pipelines.ablation.preregistration import register
from pipelines.ablation.search import chosen_settings, judge, read_search
from pipelines.ablation.sequence import resumed, sentence, with_next_seed
from pipelines.ablation.trials import Setting
from pipelines.actions.answers import Judged
from pipelines.actions.answers.judged import judged
from pipelines.comparison.expectation import Expected
from pipelines.config.load import AblationConfig
from pipelines.distributed.stop import StopRequest, listening
from pipelines.errors import Interrupted, RunFailed
from pipelines.executors import cancellation
from pipelines.executors.select import executor_of, get_ready
from pipelines.models.starting_point import pinned_ablation
from pipelines.report import searches
from pipelines.shown import printable
from pipelines.storage import atomic
from pipelines.storage.names import FAILURE, REPORT, RUNS, SEARCH
from pipelines.storage.run_folder import RunFolder
from pipelines.storage.sealed import sealed
from pipelines.terminal import Terminal


def ablate_command(
    config: AblationConfig,
    out: str,
    *,
    jobs: int | None = None,
    executor: str | None = None,
    fresh: bool = False,
    dry_run: bool = False,
    prepare: bool = False,
    expect: Expected | None = None,
) -> Judged | None:
    """Run what is missing, compare the arms, write the report into `out`, and return the arms judged.

    See `run_ablation`; None where nothing was to be run.

    Args:
        expect: what is expected of the arms.

    Raises:
        RunFailed: a run failed; the report of the others is written.
    """
    failed = run_ablation(
        config, out, jobs=jobs, executor=executor, fresh=fresh, dry_run=dry_run, prepare=prepare
    )
    if dry_run or prepare:
        return None
    stored = results.read_results(Path(out))
    assert stored is not None  # just written
    found = judged(stored, Path(out), expect)
    if failed:
        first, outcome = next(iter(failed.items()))
        many = f"{len(failed)} runs failed, the first" if len(failed) > 1 else "1 run failed"
        what = f"{out}: {many}: {first.label}: {outcome.reason.rstrip('.')}"
        raise RunFailed(f"{what}. The same command tries again what failed.", found)
    return found


def run_ablation(
    config: AblationConfig,
    out: str,
    *,
    jobs: int | None = None,
    executor: str | None = None,
    fresh: bool = False,
    dry_run: bool = False,
    prepare: bool = False,
) -> dict[Cell, Outcome]:
    """Run what is missing, compare the arms, write the report into `out`, and return the runs that failed.

    A run that diverged is a finding, and no failure.

    Args:
        jobs: runs side by side on this machine.
        executor: where the runs are made; None: as the ablation configures it.
        fresh: run everything again, in new run folders.
        dry_run: only print what would be run.
        prepare: write the plan but run nothing; print the commands that make the missing runs.

    Raises:
        UserError: two arms are the same run, or runs that cannot be compared, or the registration cannot be
            anchored before the first run.
        RunFailed: no run finished, so there is nothing to compare.
        Interrupted: it was asked to stop; the same command resumes.
    """
    terminal = Terminal(errors=True)
    folder, config = Path(out), pinned_ablation(config)
    refuse_other_store(config.store, folder)
    place = executor_of(config, folder, terminal.say, name=executor, jobs=jobs)
    remote = at_url(config.store, folder)
    if remote is not None and not dry_run:
        remote.bring()
    config = config if fresh else resumed(config, folder)
    tries = plan_tries(config, folder, fresh=fresh)
    plan = partial(plan_cells, folder=folder, fresh=fresh, tries=tries)
    known = known_settings(folder, tries)
    cells = plan(config, chosen=known) if known or not tries else []
    if dry_run:
        print_runs([*tries, *cells], config, folder, place, terminal)
        if remote is not None:
            terminal.say(f"{config.store} was not looked at: runs that have ended there count as missing")
        return {}
    if remote is not None:
        remote.refuse_known([*tries, *cells]) if fresh else remote.fetch_results([*tries, *cells])
    known_runs = [*tries, *cells]
    write_down = partial(write_plan, config, known_runs, folder, terminal, remote, fresh=fresh)
    if prepare:
        write_down()
        print_commands(cells or tries, place)
        return {}
    with listening() as stop:
        if any(earlier_outcome(cell) is None for cell in known_runs):
            get_ready(place, known_runs)
        write_down()
        run = partial(run_missing, executor=place, stop=stop, terminal=terminal)
        if tries:
            terminal.say("searching settings on validation data, as many for every arm")
            cells = plan(config, chosen=search(config, run(tries), folder, terminal))
            remember([*tries, *cells], folder, remote)
        ended, computed = run_grid(config, cells, tries, folder, run, terminal, plan, remote)
    conclude(ended, computed, terminal, remote)
    ends = {cell: ended.outcomes.get(cell) or outcome_of(cell) for cell in ended.runs}
    return {cell: outcome for cell, outcome in ends.items() if outcome.status == "failed"}


def run_grid(
    config: AblationConfig,
    cells: Sequence[Cell],
    tries: Sequence[Cell],
    folder: Path,
    run: Callable[[Sequence[Cell]], dict[Cell, Outcome]],
    terminal: Terminal,
    plan: Callable[..., list[Cell]],
    remote: AblationAtUrl | None,
) -> tuple[results.EndedAblation, dict[str, Any] | None]:
    """Run the grid, and further seeds as long as a stopping rule adds one.

    Returns:
        What has ended, and its results where the stopping rule has looked at them.
    """
    ended = results.EndedAblation(config, run(cells), folder, tries)
    computed = look(ended, terminal)
    while computed is not None and (grown := with_next_seed(ended.config, computed)) is not None:
        results.write(computed, folder)
        new = plan(grown, chosen=known_settings(folder, tries))
        cells = [*cells, *(cell for cell in new if cell.seed == grown.seeds[-1])]
        register(grown, folder)
        remember([*tries, *cells], folder, remote)
        ended = results.EndedAblation(grown, run(cells), folder, tries)
        computed = look(ended, terminal)
    return ended, computed


def remember(cells: Sequence[Cell], folder: Path, remote: AblationAtUrl | None) -> None:
    """Store which folder each run has, here and where other machines find the ablation."""
    remember_folders(cells, folder)
    if remote is not None:
        remote.publish()


def known_settings(folder: Path, tries: Sequence[Cell]) -> dict[Key, Setting] | None:
    """Return the settings that the search has chosen; None without a search, or before its end."""
    record = read_search(folder) if tries else None
    return chosen_settings(record) if record is not None else None


def print_runs(
    cells: Sequence[Cell], config: AblationConfig, folder: Path, place: Executor, terminal: Terminal
) -> None:
    """Print what would be run."""
    earlier = open_ablation(folder).cells if (folder / RUNS).exists() else ()
    every = {cell.folder: cell for cell in cells}
    print_plan(list(every.values()), config, place, terminal, earlier)


def conclude(
    ended: results.EndedAblation,
    computed: dict[str, Any] | None,
    terminal: Terminal,
    remote: AblationAtUrl | None,
) -> None:
    """Compare the arms, write and print the report, and delete the models that are not kept.

    Args:
        computed: its results, where they have been computed.

    Raises:
        RunFailed: no run finished, so there is nothing to compare.
    """
    folder = ended.folder
    finished = [cell for cell, outcome in ended.outcomes.items() if outcome.status == "finished"]
    if not finished:
        first = next(iter(ended.outcomes.values()))
        raise RunFailed(f"{folder}: no run finished; the first: {first.reason}")
    computed = computed or results.results_of([ended], folder)
    looks.record(computed, [ended], terminal.say)
    results.write(computed, folder)
    report.print_table(computed, Terminal(), folder)
    dropped = delete_models(ended.config, finished)
    in_grid = {cell.folder for cell in ended.outcomes}
    for cell in ended.tries:
        if cell.folder not in in_grid:
            RunFolder(cell.folder).drop_model()
            dropped.append(cell)
    if remote is not None:
        remote.complete([*ended.outcomes, *ended.tries])
        remote.drop_models(dropped)
        remote.fetch_models([cell for cell in finished if cell not in dropped])
    terminal.say(f"report: {folder / REPORT}")


def look(ended: results.EndedAblation, terminal: Terminal) -> dict[str, Any] | None:
    """Return what a sequential ablation has shown so far, and say it; None for another, or without a run."""
    if ended.config.stopping is None or not any(one.status == "finished" for one in ended.outcomes.values()):
        return None
    computed = results.results_of([ended], ended.folder)
    terminal.say(sentence(ended.config, computed))
    return computed


def write_plan(
    config: AblationConfig,
    cells: Sequence[Cell],
    folder: Path,
    terminal: Terminal,
    remote: AblationAtUrl | None,
    *,
    fresh: bool,
) -> None:
    """Register the ablation, and store which folder each run has."""
    declare(config, folder, terminal, fresh=fresh)
    cancellation.revoke(folder)
    remember(cells, folder, remote)


def declare(config: AblationConfig, folder: Path, terminal: Terminal, *, fresh: bool) -> None:
    """Register the ablation, and put its registration where its anchor says."""
    anchor.refuse_late(config, folder)
    register(config, folder, fresh=fresh)
    anchored = anchor.anchor(config, folder)
    if anchored is not None:
        terminal.say(f"registration anchored: {anchor.described(anchored)}")


def search(
    config: AblationConfig, outcomes: Mapping[Cell, Outcome], folder: Path, terminal: Terminal
) -> dict[Key, Setting]:
    """Write the record of a search, and return what it chose for every (cell, arm)."""
    record = judge(config, outcomes)
    atomic.write_json(folder / SEARCH, sealed(record))
    for cell, arms in record["cells"].items():
        for arm, choice in arms.items():
            setting = searches.setting(choice["chosen"], choice.get("settings"))
            terminal.say(f"{cell} / {arm}: {setting} ({choice['reason']})")
    return chosen_settings(record)


def print_commands(cells: Sequence[Cell], executor: Executor) -> None:
    """Print the commands that make the missing runs: one for each, or what the executor has instead."""
    for command in executor.prepare([cell for cell in cells if earlier_outcome(cell) is None]):
        print(printable(command))
    print("when these have ended, start the same command without --prepare for the report", file=sys.stderr)


def run_missing(
    cells: Sequence[Cell], executor: Executor, stop: StopRequest, terminal: Terminal
) -> dict[Cell, Outcome]:
    """Run the cells that have not ended yet, and return the outcome of every cell.

    Raises:
        Interrupted: it was asked to stop, or the ablation was cancelled.
    """
    outcomes = {cell: outcome for cell in cells if (outcome := earlier_outcome(cell)) is not None}
    missing = [cell for cell in cells if cell not in outcomes]
    at_a_time = min(executor.at_a_time or len(missing), len(missing))
    terminal.say(f"{len(cells)} runs, {len(outcomes)} ended before, {at_a_time} at a time")
    started, done = time.monotonic(), 0

    def on_outcome(cell: Cell, outcome: Outcome) -> None:
        nonlocal done
        done += 1
        if stop.requested and outcome.status == "failed" and not (cell.folder / FAILURE).exists():
            outcome = Outcome("interrupted", "asked to stop")  # killed by whoever stopped this
        record_failure(cell, outcome)
        outcomes[cell] = outcome_of(cell) if outcome.status != "interrupted" else outcome
        seconds = (time.monotonic() - started) / done * (len(missing) - done)
        left = f" (about {duration(seconds)} left)" if seconds else ""
        reason = f": {outcome.reason}" if outcome.reason else ""
        terminal.say(f"[{done}/{len(missing)}] {cell.label}: {outcome.status}{reason}{left}")

    if missing:
        executor.run(missing, stop=stop, on_outcome=on_outcome)
    if stop.requested:
        raise Interrupted(f"stopped by {stop.signal_name}; {executor.when_stopped}")
    if cancellation.is_cancelled(cells[0].ablation):
        raise Interrupted("cancelled by attnlab status --cancel; start the same command again to resume")
    return {cell: outcomes[cell] for cell in cells if cell in outcomes}


def record_failure(cell: Cell, outcome: Outcome) -> None:
    """Write the reason of a failure that the run could not write itself: a killed process leaves none."""
    failure = cell.folder / FAILURE
    if outcome.status == "failed" and not failure.exists():
        cell.folder.mkdir(parents=True, exist_ok=True)
        failure.write_text(f"{outcome.reason}\n", encoding="utf-8")


def earlier_outcome(cell: Cell) -> Outcome | None:
    """Return how a cell ended in an earlier start; None if it is still to be run."""
    return outcome_of(cell) if RunFolder(cell.folder).manifest() else None


def delete_models(config: AblationConfig, finished: Sequence[Cell]) -> list[Cell]:
    """Delete the models that `keep` does not keep: none, all but the best seed of each arm, or all.

    Returns:
        The runs without a model.
    """
    if config.keep == "model":
        return []
    kept = best_seeds(finished).values() if config.keep == "best_seed" else ()
    dropped = [cell for cell in finished if cell not in kept]
    for cell in dropped:
        RunFolder(cell.folder).drop_model()
    return dropped
