"""What a run will cost in time and disk, judged by finished runs of the same cell."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from pipelines.ablation.cell import Cell
from pipelines.storage.names import MODEL
from pipelines.storage.run_folder import RunFolder

BYTES_OF_WEIGHT = 4  # float32


@dataclass(frozen=True)
class Cost:
    """What one run takes; None where no run of its cell has finished yet."""

    seconds: float | None = None
    result_bytes: float | None = None  # predictions, statistics, logs
    weight_bytes: float | None = None  # kept or dropped after the run, as `keep` says


def costs(cells: Sequence[Cell], earlier: Sequence[Cell] = ()) -> dict[Cell, Cost]:
    """What each run takes: the mean over finished runs of its arm in its cell, else of its cell.

    `earlier` are runs of the same cells before something was changed: they tell no result, but the time.
    """
    known: dict[Cell, Cost] = {}
    for cell in {one.folder: one for one in (*earlier, *cells)}.values():
        cost = measured(cell)
        known |= {cell: cost} if cost else {}
    groups = {(cell.cell, _arm(cell)) for cell in cells}
    typical = {group: _typical(*group, known) for group in groups}
    return {cell: typical[cell.cell, _arm(cell)] for cell in cells}


def _arm(cell: Cell) -> str:
    """The arm of a run of the grid or of the search."""
    return cell.arm.partition(" ")[0]


def measured(cell: Cell) -> Cost | None:
    """What a finished run took; None for any other."""
    manifest = RunFolder(cell.folder).manifest()
    if manifest is None or manifest["status"] != "finished":
        return None
    weights = BYTES_OF_WEIGHT * (manifest.get("num_parameters") or 0)
    return Cost(manifest.get("total_seconds"), size_of(cell.folder, without=MODEL), weights)


def _typical(cell: str, arm: str, known: dict[Cell, Cost]) -> Cost:
    of_cell = [(_arm(other), cost) for other, cost in known.items() if other.cell == cell]
    alike = [cost for its, cost in of_cell if its == arm] or [cost for _, cost in of_cell]
    return Cost(*(_mean([getattr(cost, name) for cost in alike]) for name in Cost.__dataclass_fields__))


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return fmean(there) if there else None


def size_of(folder: Path, *, without: str = "") -> int:
    """Size of all files below a folder in bytes, one of its subfolders left out."""
    total = 0
    for place, folders, files in os.walk(folder):
        if Path(place) == folder and without in folders:
            folders.remove(without)
        for name in files:
            with suppress(FileNotFoundError):  # a working process rotates its checkpoints
                total += os.lstat(os.path.join(place, name)).st_size
    return total


def duration(seconds: float) -> str:
    """A duration as a reader says it: 40 s, 12 min, 3.5 h, 2.1 days."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def size(num_bytes: float) -> str:
    """A size as a reader says it: 4 kB, 1.2 GB."""
    for unit, length in (("kB", 1e3), ("MB", 1e6)):
        if num_bytes < 1000 * length:
            return f"{max(1, num_bytes / length):.0f} {unit}"
    return f"{num_bytes / 1e9:.1f} GB"
