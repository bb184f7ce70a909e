"""One run of an ablation, its outcome, and the interface of an executor."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Protocol

from pipelines.distributed.stop import EXIT_INTERRUPTED, StopRequest
from pipelines.storage import reading
from pipelines.storage.names import CACHE, FAILURE
from pipelines.storage.run_folder import RunFolder

Status = Literal["finished", "diverged", "failed", "interrupted"]
# Exit statuses of the process of a cell. EXIT_BUSY is not among them: another process works on the run.
EXIT_CODES: dict[int, Status] = {
    0: "finished",
    1: "failed",
    2: "failed",
    3: "diverged",
    EXIT_INTERRUPTED: "interrupted",
}


@dataclass(frozen=True, eq=False)
class Cell:
    """One run of the grid or of the search: a resolved configuration and its run folder."""

    cell: str
    arm: str  # of the grid; a run of the search has "arm at setting"
    seed: int
    config: dict[str, Any]
    run_hash: str
    folder: Path
    ablation: Path  # folder of the ablation that this run was planned for
    store: str | None = None  # storage URL of the run folders, where the machines share no file system

    @property
    def label(self) -> str:
        return f"{self.cell} / {self.arm} / seed {self.seed}"

    @property
    def arm_in_grid(self) -> str:
        """The arm without the setting that a run of the search adds."""
        return self.arm.partition(" ")[0]

    @property
    def address(self) -> str:
        """The folder of the ablation as any machine finds it: a path, or a storage URL."""
        return address_of(self.ablation, self.store)

    @property
    def cache(self) -> Path:
        """The folder of cached features, shared by all ablations beside this one."""
        return self.ablation.parent / CACHE


def to_plain(cell: Cell) -> dict[str, Any]:
    """Return a cell as JSON, to be sent to another machine that sees its folders."""
    folders = {name: str(getattr(cell, name).absolute()) for name in ("folder", "ablation")}
    return {**{one.name: getattr(cell, one.name) for one in fields(cell)}, **folders}


def from_plain(values: Mapping[str, Any]) -> Cell:
    """Return the cell that `to_plain` has written."""
    return Cell(**{**values, "folder": Path(values["folder"]), "ablation": Path(values["ablation"])})


@dataclass(frozen=True)
class Outcome:
    """How a cell ended; `reason` is a sentence if it did not finish."""

    status: Status
    reason: str = ""


OnOutcome = Callable[[Cell, Outcome], None]


class Executor(Protocol):
    """A place where cells run. docs/clusters.md explains how to write one.

    Attributes:
        at_a_time: runs side by side; None if the place decides.
        when_stopped: a clause for the user on what happens to the runs after `run` was asked to stop.
    """

    @property
    def at_a_time(self) -> int | None: ...

    @property
    def when_stopped(self) -> str: ...

    def run(self, cells: Sequence[Cell], *, stop: StopRequest, on_outcome: OnOutcome) -> None:
        """Run every cell to its end and report each as it ends; a failure does not stop the others.

        A cell that another process works on is waited for, never run twice. When a stop is requested or the
        ablation is cancelled (`cancellation.is_cancelled`), it returns early and need not report the rest.
        """

    def prepare(self, cells: Sequence[Cell]) -> list[str]:
        """Return the commands that make the cells without this executor, for `ablate --prepare` to print."""

    def price(self, cells: Sequence[Cell], seconds: Mapping[Cell, float]) -> list[str]:
        """Return sentences on what the cells cost in money, for `ablate --dry-run`; none where it is nothing.

        Args:
            seconds: what a run will take, for each cell of which that is known.
        """


def costs_nothing(cells: Sequence[Cell], seconds: Mapping[Cell, float]) -> list[str]:
    """Return no sentence: nobody sends a bill for these cells."""
    return []


def address_of(ablation: Path, store: str | None) -> str:
    """Return the folder of an ablation as any machine finds it: a path, or a storage URL."""
    return str(ablation) if store is None else f"{store.rstrip('/')}/{ablation.resolve().name}"


def run_cell_commands(cells: Sequence[Cell]) -> list[str]:
    """Return one command for each cell, for any scheduler."""
    return [f"attnlab run-cell {shlex.quote(cell.address)} {cell.folder.name}" for cell in cells]


def outcome_of(cell: Cell) -> Outcome:
    """Return the outcome of a run as its folder records it; an unfinished run counts as interrupted."""
    manifest = RunFolder(cell.folder).manifest()
    if manifest is not None:
        diverged = manifest["status"] == "diverged"
        reason = f"loss or gradient not finite at step {manifest['diverged_at']}" if diverged else ""
        return Outcome(manifest["status"], reason)
    failure = cell.folder / FAILURE
    if reading.is_there(failure):
        fix = "delete it; attnlab ablate tries the run again"
        return Outcome("failed", reading.text(failure, fix).strip())
    return Outcome("interrupted", "not finished yet")
