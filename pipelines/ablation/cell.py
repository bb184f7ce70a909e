"""One cell of an ablation, and what became of it: all that an executor needs to know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pipelines.distributed.stop import EXIT_INTERRUPTED, StopRequest
from pipelines.storage.names import CACHE, FAILURE
from pipelines.storage.run_folder import RunFolder

Status = Literal["finished", "diverged", "failed", "interrupted"]
# What the process of a cell says by its exit status; EXIT_BUSY is none of these: another one works on it.
EXIT_CODES: dict[int, Status] = {
    0: "finished",
    1: "failed",
    2: "failed",
    3: "diverged",
    EXIT_INTERRUPTED: "interrupted",
}


@dataclass(frozen=True, eq=False)
class Cell:
    """One run of the grid: a resolved configuration and the folder it belongs to."""

    cell: str
    arm: str
    seed: int
    config: dict[str, Any]
    run_hash: str
    folder: Path
    ablation: Path  # the folder of the ablation that wants it

    @property
    def label(self) -> str:
        return f"{self.cell} / {self.arm} / seed {self.seed}"

    @property
    def cache(self) -> Path:
        """Where the features of its data are, shared by all ablations of the folder."""
        return self.ablation.parent / CACHE


@dataclass(frozen=True)
class Outcome:
    """How a cell ended; `reason` is a sentence where it did not finish."""

    status: Status
    reason: str = ""


OnOutcome = Callable[[Cell, Outcome], None]


class Executor(Protocol):
    """A place where cells run. docs/clusters.md says how to write one.

    Attributes:
        at_a_time: runs side by side; None where the place decides.
        when_stopped: a clause on what becomes of the runs when `run` was asked to stop.
    """

    at_a_time: int | None
    when_stopped: str

    def run(self, cells: Sequence[Cell], *, stop: StopRequest, on_outcome: OnOutcome) -> None:
        """Have every cell run to its end, and report each as it ends; a failure stops no other cell.

        A cell that another process works on is waited for, never run twice. When a stop is requested or the
        ablation is cancelled (`cancellation.is_cancelled`), it returns early and need not report the rest.
        """


def outcome_of(cell: Cell) -> Outcome:
    """How a run stands, by its folder alone."""
    manifest = RunFolder(cell.folder).manifest()
    if manifest is not None:
        diverged = manifest["status"] == "diverged"
        reason = f"loss or gradient not finite at step {manifest['diverged_at']}" if diverged else ""
        return Outcome(manifest["status"], reason)
    failure = cell.folder / FAILURE
    if failure.exists():
        return Outcome("failed", failure.read_text(encoding="utf-8").strip())
    return Outcome("interrupted", "not run to its end yet")
