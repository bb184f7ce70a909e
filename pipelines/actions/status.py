"""How an ablation stands: a table from what its runs have written, while they work or afterwards.

Only files are read, also to learn who holds which lock; nothing is taken, so nothing is disturbed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipelines.ablation import cost
from pipelines.ablation.cell import Cell, outcome_of
from pipelines.ablation.folder import StoredAblation, open_ablation
from pipelines.executors import cancellation, slurm_queue
from pipelines.storage.lock import is_held
from pipelines.storage.names import LOCK
from pipelines.storage.run_folder import RunFolder, read_log

SECONDS_BETWEEN_LOOKS = 2.0
SECONDS_PER_RUN = 0.01  # of the grid, so that a thousand runs do not keep a file server busy
OVER = ("finished", "diverged", "failed")  # a failed run is tried again by the next start, not by this one
STYLES = {"finished": "green", "running": "bold", "diverged": "yellow", "failed": "red"}
MOST_WORDS = 60  # characters of a reason in the table


@dataclass(frozen=True)
class Standing:
    """How one run stands."""

    cell: Cell
    word: str  # finished, diverged, failed, running, queued, stopped (it can go on), waiting
    step: int | None = None
    num_steps: int | None = None
    loss: float | None = None
    steps_per_second: float | None = None
    score: float | None = None
    seconds_left: float | None = None  # None: unknown; 0 where it is over
    reason: str = ""


def status_command(folder: str, *, watch: bool) -> None:
    """`attnlab status`: print the table, or keep it on the screen until every run is over."""
    console = Console(highlight=False)
    where = Path(folder)
    standings = look(open_ablation(where))
    if not watch:
        console.print(table(standings))
        return
    with Live(table(standings), console=console, auto_refresh=False) as live:
        while any(one.word not in OVER for one in standings):
            time.sleep(max(SECONDS_BETWEEN_LOOKS, SECONDS_PER_RUN * len(standings)))
            standings = look(open_ablation(where))  # read again: it may have grown
            live.update(table(standings), refresh=True)


def look(ablation: StoredAblation) -> list[Standing]:
    """How every run of the search and the grid stands, each once."""
    in_grid = {cell.folder for cell in ablation.cells}
    cells = [*(cell for cell in ablation.tries if cell.folder not in in_grid), *ablation.cells]
    costs, queued = cost.costs(cells), slurm_queue.queued(ablation.folder)
    return [standing(cell, costs[cell].seconds, is_queued=cell.folder.name in queued) for cell in cells]


def standing(cell: Cell, typical_seconds: float | None = None, *, is_queued: bool = False) -> Standing:
    """How one run stands; `typical_seconds` is what its like take, `is_queued` that a job is for it."""
    held = is_held(cell.folder / LOCK)  # before the manifest: a run that ends in between is then over
    folder = RunFolder(cell.folder)
    manifest = folder.manifest()
    events = read_log(folder.metrics_log) if folder.metrics_log.exists() else []
    steps = [event for event in events if event.get("event") == "step"]
    last = steps[-1] if steps else {}
    known = {"step": last.get("step"), "loss": _number(last.get("loss"))}
    if manifest is not None:
        scores = manifest["scores"].get("test") or manifest["scores"].get("validation") or {}
        known |= {"num_steps": manifest["num_steps"], "score": scores.get(manifest["primary"])}
        outcome = outcome_of(cell)
        return Standing(cell, outcome.status, seconds_left=0.0, reason=outcome.reason, **known)
    known["num_steps"] = _num_steps(cell.config, last)
    if held:
        rate = _rate(steps)
        left = _seconds_left(known["step"], known["num_steps"], rate, typical_seconds)
        return Standing(cell, "running", steps_per_second=rate, seconds_left=left, **known)
    outcome = outcome_of(cell)
    if outcome.status == "failed" and not is_queued:
        return Standing(cell, "failed", seconds_left=0.0, reason=outcome.reason, **known)
    begun = bool(events) or folder.checkpoints.exists()
    left = _seconds_left(known["step"] or 0, known["num_steps"], None, typical_seconds)
    word = "queued" if is_queued else "stopped" if begun else "waiting"
    return Standing(cell, word, seconds_left=left, **known)


def _num_steps(config: dict[str, Any], last: dict[str, Any]) -> int | None:
    """Planned optimizer steps: as configured, else by how many steps made the epochs done so far."""
    if config["max_steps"]:
        return config["max_steps"]
    return round(config["num_epochs"] * last["step"] / last["epoch"]) if last.get("epoch") else None


def _rate(steps: Sequence[dict[str, Any]]) -> float | None:
    """Steps per second of training between the last two lines of the log."""
    points = [(0, 0.0), *((event["step"], event["seconds"]) for event in steps)][-2:]
    if len(points) < 2 or points[1][1] <= points[0][1]:
        return None
    return (points[1][0] - points[0][0]) / (points[1][1] - points[0][1])


def _seconds_left(
    step: int | None, total: int | None, rate: float | None, typical: float | None
) -> float | None:
    """The share that is left of what runs of the cell take; without such a run, at the current rate."""
    if typical is not None:
        return typical * (1 - (step or 0) / total if total else 1.0)
    return (total - step) / rate if rate and total and step is not None else None


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) else None


# ---- on the screen


def table(standings: Sequence[Standing]) -> Group:
    """One line per run, and a line for all of them."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in ("Cell", "Arm"):
        shown.add_column(heading, overflow="fold")
    shown.add_column("Seed", justify="right")
    shown.add_column("Status")
    for heading in ("Step", "Loss", "Steps/s", "Left", "Score"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for one in standings:
        cell, style = one.cell, STYLES.get(one.word, "")
        first = (cell.cell, cell.arm, str(cell.seed))
        shown.add_row(*map(Text, first), Text(one.word, style=style), *map(Text, _numbers(one)))
    reasons = [Text(f"{one.cell.label}: {one.word}: {_cut(one.reason)}") for one in standings if one.reason]
    return Group(shown, *reasons, *map(Text, sentences(standings)))


def _numbers(one: Standing) -> tuple[str, ...]:
    step = "" if one.step is None else f"{one.step}/{one.num_steps}" if one.num_steps else str(one.step)
    left = cost.duration(one.seconds_left) if one.seconds_left else ""
    formats = ((one.loss, ".4f"), (one.steps_per_second, ".1f"), (one.score, ".2f"))
    loss, rate, score = ("" if value is None else f"{value:{form}}" for value, form in formats)
    return step, loss, rate, left, score


def sentences(standings: Sequence[Standing]) -> Iterator[str]:
    """How many runs stand how, how long it may take, and what to do where nothing works on them."""
    counts = Counter(one.word for one in standings)
    parts = ", ".join(f"{count} {word}" for word, count in counts.items())
    yield f"{len(standings)} runs: {parts}{_left(standings, counts['running'])}"
    if counts["running"] + counts["queued"] == 0 and counts["stopped"] + counts["waiting"] + counts["failed"]:
        yield "none is being worked on; unless attnlab ablate is just starting, start it again to go on"


def _left(standings: Sequence[Standing], num_running: int) -> str:
    if not num_running:
        return ""
    left = [one.seconds_left for one in standings]
    if None in left:
        return "; time left unknown until a run of each cell has finished"
    return f"; about {cost.duration(sum(left) / num_running)} left, {num_running} at a time"


def _cut(text: str) -> str:
    first = text.splitlines()[0]
    return first if len(first) <= MOST_WORDS else f"{first[: MOST_WORDS - 1]}…"


def cancel_command(folder: str) -> None:
    """`attnlab status DIR --cancel`: cancel it; the next `attnlab ablate` goes on where it was."""
    ablation = open_ablation(Path(folder)).folder
    cancellation.cancel(ablation)
    withdrawn = slurm_queue.withdraw(ablation) if slurm_queue.jobs_of(ablation) else 0
    taken = f"{withdrawn} job{'s' if withdrawn > 1 else ''} taken out of Slurm's queue; " if withdrawn else ""
    seconds = cancellation.SECONDS_BETWEEN_LOOKS
    print(
        f"{taken}runs at work save a checkpoint and leave at the end of a step, {seconds:.0f} s from now on"
    )
    print(f"attnlab status {folder} shows them stopped; attnlab ablate goes on where they were")
