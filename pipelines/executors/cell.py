"""One cell of an ablation, and what became of it: all that an executor needs to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Status = Literal["finished", "diverged", "failed", "interrupted"]


@dataclass(frozen=True, eq=False)
class Cell:
    """One run of the grid: a resolved configuration and the folder it belongs to."""

    cell: str
    arm: str
    seed: int
    config: dict[str, Any]
    run_hash: str
    folder: Path
    cache: Path

    @property
    def label(self) -> str:
        return f"{self.cell} / {self.arm} / seed {self.seed}"


@dataclass(frozen=True)
class Outcome:
    """How a cell ended; `reason` is a sentence where it did not finish."""

    status: Status
    reason: str = ""


OnOutcome = Callable[[Cell, Outcome], None]
