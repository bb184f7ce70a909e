"""`attnlab status`: show the runs of an ablation, cancel them, or find run folders that are not used."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipelines.ablation import sides
from pipelines.ablation.at_url import at_url
from pipelines.ablation.cost import duration, folder_bytes, size
from pipelines.ablation.folder import open_ablation
from pipelines.ablation.results import read_results
from pipelines.ablation.unused import delete_run, unused_runs
from pipelines.actions.answers import Status, StatusOfRun, UnusedRun
from pipelines.errors import UserError
from pipelines.executors import cancellation, slurm_queue
from pipelines.executors.run_state import ENDED, RunState, run_states
from pipelines.report import data as report_data
from pipelines.report import sequence
from pipelines.shown import printable
from pipelines.storage import lease
from pipelines.terminal import Terminal

SECONDS_BETWEEN_LOOKS = 2.0
SECONDS_PER_RUN = 0.01  # added per run, so that a thousand runs do not keep a file server busy
# What a small screen shows first.
ORDER = ("running", "failed", "diverged", "interrupted", "stopped", "queued", "finished", "waiting")
STYLES = {"finished": "green", "running": "bold", "diverged": "yellow", "failed": "red"}
NUMBERS = ("Step", "Loss", "Steps/s", "Left", "Score")  # columns that are there if a run has such a number
MOST_CELLS = 60  # of a reason in the table: Chinese characters take two of a terminal


def status_command(
    folder: str,
    *,
    watch: bool = False,
    cancel: bool = False,
    unused: bool = False,
    delete: bool = False,
) -> Status:
    """Print a table of the runs of an ablation and return it; or do one of the following instead of printing.

    Args:
        watch: keep the table up to date until every run has ended.
        cancel: ask all runs to save a checkpoint and exit; the next `attnlab ablate` resumes them.
        unused: list the run folders that no ablation beside this one names.
        delete: with `unused`, delete them.

    Raises:
        UserError: it is not an ablation folder, or `delete` was given without `unused`.
    """
    if delete and not unused:
        raise UserError(
            "--delete", "has no meaning without --unused", accepted="attnlab status DIR --unused --delete"
        )
    ablation = Path(folder)
    found: list[UnusedRun] | None = None
    if cancel:
        print_cancellation(ablation)
    elif unused:
        found = print_unused(ablation, delete=delete)
    else:
        bring_progress(ablation)
        print_table(ablation, watch=watch)
    return answer(ablation, found)


def answer(ablation: Path, unused: list[UnusedRun] | None) -> Status:
    """Return the state of every run, as it is now."""
    stored = open_ablation(ablation)
    states = run_states(stored)
    return Status(
        folder=str(ablation),
        runs=[
            StatusOfRun(
                cell=one.cell.cell,
                arm=one.cell.arm,
                seed=one.cell.seed,
                folder=str(one.cell.folder),
                state=one.state,
                step=one.step,
                num_steps=one.num_steps,
                loss=one.loss,
                score=one.score,
                seconds_left=one.seconds_left,
                reason=one.reason,
            )
            for one in states
        ],
        counts=dict(Counter(one.state for one in states)),
        over=all(one.state in ENDED for one in states),
        looks=looks_so_far(ablation),
        not_as_planned=list(sides.differences((*stored.tries, *stored.cells))),
        cancelled=cancellation.is_cancelled(stored.folder),
        unused=unused,
    )


def bring_progress(ablation: Path) -> float:
    """Bring what is known of the runs at a storage URL; return the seconds until the next look."""
    stored = open_ablation(ablation)
    remote = at_url(stored.config.store, stored.folder)
    if remote is None:
        return max(SECONDS_BETWEEN_LOOKS, SECONDS_PER_RUN * len(stored.cells))
    remote.fetch_progress([*stored.tries, *stored.cells])
    return lease.RENEWAL_SECONDS


# ---- the table
def print_table(ablation: Path, *, watch: bool) -> None:
    """Print the table, or keep it on the screen until every run has ended."""
    terminal = Terminal()
    states = run_states(open_ablation(ablation))
    if not watch:
        terminal.print(table(states))
        for line in looks_so_far(ablation):
            terminal.say(line)
        print_other_sides(ablation, terminal)
        return
    try:
        with Live(screen(states, terminal), console=terminal, auto_refresh=False) as live:
            while any(one.state not in ENDED for one in states):
                time.sleep(bring_progress(ablation))
                states = run_states(open_ablation(ablation))  # read again: the grid may have grown
                live.update(screen(states, terminal), refresh=True)
        print_other_sides(ablation, terminal)
    except KeyboardInterrupt:
        end = "" if terminal.is_terminal else "\n"  # of the last table, which a terminal has ended
        terminal.print(f"{end}stopped watching; the runs are not affected")


def print_other_sides(ablation: Path, terminal: Terminal) -> None:
    """Print every run that is not what the grid says."""
    stored = open_ablation(ablation)
    for line in sides.differences((*stored.tries, *stored.cells)):
        terminal.say(f"not what the grid says: {line}")


def looks_so_far(ablation: Path) -> list[str]:
    """Return the intervals of a sequential ablation, as its last results show them."""
    stored = read_results(ablation)
    rows = report_data.load(stored, ablation).primary if stored is not None else []
    return [line for row in rows for line in sequence.lines(row)]


def screen(states: Sequence[RunState], terminal: Terminal) -> Group:
    """Return the table with as many runs as the screen has lines for, those at work and the failed first."""
    rows = terminal.height - 1  # the line of the cursor
    places = sorted(range(len(states)), key=lambda place: ORDER.index(states[place].state))
    for count in range(min(len(states), rows), -1, -1):
        drawn = table([states[place] for place in sorted(places[:count])], states)
        if len(terminal.render_lines(drawn, pad=False)) <= rows:
            break
    return drawn


def table(states: Sequence[RunState], every: Sequence[RunState] | None = None) -> Group:
    """Return one line per run, the reasons of failures, and the totals over `every` run."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    for heading in ("Cell", "Arm"):
        shown.add_column(heading, overflow="fold")
    shown.add_column("Seed", justify="right", no_wrap=True)
    shown.add_column("Status", no_wrap=True)
    columns = [(heading, texts) for heading, *texts in zip(NUMBERS, *map(_numbers, states)) if any(texts)]
    for heading, _ in columns:
        shown.add_column(heading, justify="right", no_wrap=True)
    for place, one in enumerate(states):
        cell, style = one.cell, STYLES.get(one.state, "")
        first = (printable(cell.cell, keep=""), printable(cell.arm, keep=""), str(cell.seed))
        numbers = (texts[place] for _, texts in columns)
        shown.add_row(*map(Text, first), Text(one.state, style=style), *map(Text, numbers))
    reasons = [
        Text(f"{printable(one.cell.label, keep='')}: {one.state}: {_cut(one.reason)}")
        for one in states
        if one.reason
    ]
    every = states if every is None else every
    hidden = len(every) - len(states)
    more = [Text(f"... and {hidden} more runs; attnlab status without --watch lists all")] if hidden else []
    return Group(shown, *reasons, *more, *map(Text, sentences(every)))


def _numbers(one: RunState) -> tuple[str, ...]:
    step = "" if one.step is None else f"{one.step}/{one.num_steps}" if one.num_steps else str(one.step)
    left = duration(one.seconds_left) if one.seconds_left else ""
    formats = ((one.loss, ".4f"), (one.steps_per_second, ".1f"), (one.score, ".2f"))
    loss, rate, score = ("" if value is None else f"{value:{form}}" for value, form in formats)
    return step, loss, rate, left, score


def sentences(states: Sequence[RunState]) -> Iterator[str]:
    """Yield the number of runs in each state, the time left, and how to resume if nothing is running."""
    counts = Counter(one.state for one in states)
    parts = ", ".join(f"{count} {state}" for state, count in counts.items())
    yield f"{len(states)} runs: {parts}{_time_left(states, counts['running'])}"
    if counts["running"] + counts["queued"] == 0 and counts["stopped"] + counts["waiting"] + counts["failed"]:
        yield "none is running; unless attnlab ablate is just starting, start it again to resume"


def _time_left(states: Sequence[RunState], num_running: int) -> str:
    if not num_running:
        return ""
    left = [one.seconds_left for one in states if one.seconds_left is not None]
    if len(left) < len(states):
        return "; time left unknown until a run of each cell has finished"
    return f"; about {duration(sum(left) / num_running)} left, {num_running} at a time"


def _cut(text: str) -> str:
    first = printable((text.splitlines() or [""])[0], keep="")
    return first if cell_len(first) <= MOST_CELLS else f"{set_cell_size(first, MOST_CELLS - 1).rstrip()}…"


# ---- cancel, unused
def print_cancellation(ablation: Path) -> None:
    """Cancel the ablation, and print what happens to its runs."""
    stored = open_ablation(ablation)
    folder, remote = stored.folder, at_url(stored.config.store, stored.folder)
    cancellation.cancel(folder)
    if remote is not None:
        remote.cancel()
    withdrawn = slurm_queue.withdraw(folder) if slurm_queue.jobs_of(folder) else 0
    jobs = f"{withdrawn} waiting job{'s' if withdrawn > 1 else ''} removed from Slurm's queue; "
    seconds = cancellation.SECONDS_BETWEEN_LOOKS if remote is None else lease.RENEWAL_SECONDS
    told = (
        f"{jobs if withdrawn else ''}running runs save a checkpoint after their current step and exit, "
        f"within about {seconds:.0f} s\n"
        f"attnlab status {ablation} then shows them as stopped; attnlab ablate resumes them"
    )
    print(printable(told))


def print_unused(ablation: Path, *, delete: bool) -> list[UnusedRun]:
    """Print the unused run folders beside an ablation and return them; with `delete`, delete them."""
    terminal = Terminal()
    root = open_ablation(ablation).folder.parent
    found = unused_runs(root)
    listed: list[UnusedRun] = []
    total = 0
    for run in found:
        num_bytes = folder_bytes(run)
        why_kept = delete_run(run) if delete else None
        listed.append(
            UnusedRun(
                folder=str(run),
                num_bytes=num_bytes,
                deleted=delete and why_kept is None,
                kept_because=why_kept,
            )
        )
        word = "kept" if why_kept else "deleted" if delete else "unused"
        total += 0 if why_kept else num_bytes
        reason = f": {why_kept}" if why_kept else ""
        line = f"{word}  {size(num_bytes):>8}  {run}{reason}"
        terminal.say(line)
    counted = f"{len(found)} run folders that no ablation in {root} names, {size(total)}"
    advice = "" if delete or not found else "; --delete removes them"
    told = (counted if found else f"every run folder in {root} is in use") + advice
    terminal.say(told)
    return listed
