"""The state of every run of an ablation, from its files, its lock and the queue.

Nothing is locked or written, so a run is not disturbed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipelines.ablation.at_url import is_at_work
from pipelines.ablation.cell import Cell, outcome_of
from pipelines.ablation.cost import costs
from pipelines.ablation.folder import StoredAblation
from pipelines.executors import slurm_queue
from pipelines.storage import run_files
from pipelines.storage.names import METRICS_LOG
from pipelines.storage.run_folder import RunFolder, read_log

State = Literal["finished", "diverged", "failed", "interrupted", "running", "queued", "stopped", "waiting"]
ENDED: tuple[State, ...] = ("finished", "diverged", "failed")  # only a new start tries a failed run again


@dataclass(frozen=True)
class RunState:
    """The state of one run.

    Attributes:
        state: "stopped" has started and can be resumed, "waiting" has not started.
        score: the primary metric, on test if there is a test split.
        seconds_left: None if unknown, 0 if the run has ended.
        reason: why it failed or diverged.
    """

    cell: Cell
    state: State
    step: int | None = None
    num_steps: int | None = None
    loss: float | None = None
    steps_per_second: float | None = None
    score: float | None = None
    seconds_left: float | None = None
    reason: str = ""


def run_states(ablation: StoredAblation) -> list[RunState]:
    """Return the state of every run of the search and the grid, each run once."""
    in_grid = {cell.folder for cell in ablation.cells}
    cells = [*(cell for cell in ablation.tries if cell.folder not in in_grid), *ablation.cells]
    estimates, queued = costs(cells), slurm_queue.queued(ablation.folder)
    return [
        run_state(
            cell,
            estimates[cell].seconds if cell in estimates else None,
            is_queued=cell.folder.name in queued,
        )
        for cell in cells
    ]


def run_state(cell: Cell, typical_seconds: float | None = None, *, is_queued: bool = False) -> RunState:
    """Return the state of one run.

    Args:
        typical_seconds: what a whole run of its cell and arm takes.
        is_queued: whether a Slurm job waits for it or works on it.
    """
    is_locked = is_at_work(cell)  # asked first: a run that ends meanwhile then has a manifest
    folder = RunFolder(cell.folder)
    manifest = folder.manifest()
    if manifest is not None:
        run_files.require(folder.path, manifest, lambda name: name == METRICS_LOG)
    events = read_log(folder.metrics_log)
    steps = [event for event in events if event.get("event") == "step"]
    last = steps[-1] if steps else {}
    step, loss = last.get("step"), _number(last.get("loss"))
    if manifest is not None:
        outcome = outcome_of(cell)
        return RunState(
            cell,
            outcome.status,
            step,
            manifest["num_steps"],
            loss,
            score=_score(manifest),
            seconds_left=0.0,
            reason=outcome.reason,
        )
    num_steps = _num_steps(cell.config, last)
    if is_locked:
        rate = _rate(steps)
        left = _seconds_left(step, num_steps, rate, typical_seconds)
        return RunState(cell, "running", step, num_steps, loss, rate, seconds_left=left)
    outcome = outcome_of(cell)
    if outcome.status == "failed" and not is_queued:
        return RunState(cell, "failed", step, num_steps, loss, seconds_left=0.0, reason=outcome.reason)
    has_started = bool(events) or folder.checkpoints.exists()
    left = _seconds_left(step or 0, num_steps, None, typical_seconds)
    state: State = "queued" if is_queued else "stopped" if has_started else "waiting"
    return RunState(cell, state, step, num_steps, loss, seconds_left=left)


def _score(manifest: Mapping[str, Any]) -> float | None:
    scores = manifest["scores"].get("test") or manifest["scores"].get("validation") or {}
    return scores.get(manifest["primary"])


def _num_steps(config: Mapping[str, Any], last: Mapping[str, Any]) -> int | None:
    """Return the planned optimizer steps: as configured, else by the steps of the epochs so far."""
    if config["max_steps"]:
        return config["max_steps"]
    return round(config["num_epochs"] * last["step"] / last["epoch"]) if last.get("epoch") else None


def _rate(steps: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the training steps per second between the last two lines of the log."""
    points = [(0, 0.0), *((event["step"], event["seconds"]) for event in steps)][-2:]
    if len(points) < 2 or points[1][1] <= points[0][1]:
        return None
    return (points[1][0] - points[0][0]) / (points[1][1] - points[0][1])


def _seconds_left(
    step: int | None, total: int | None, rate: float | None, typical: float | None
) -> float | None:
    """Return the remaining share of the typical time; without one, the remaining steps at `rate`."""
    if typical is not None:
        return typical * (1 - (step or 0) / total if total else 1.0)
    return (total - step) / rate if rate and total and step is not None else None


def _number(value: object) -> float | None:
    """Return a number; None for "nan" and the like, which the log stores as text."""
    return value if isinstance(value, int | float) else None
