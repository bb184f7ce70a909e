"""Time and disk space that a run will need, estimated from finished runs of the same cell."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
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
    """Time and disk space of one run."""

    seconds: float
    result_bytes: float  # predictions, statistics, logs
    weight_bytes: float  # kept or deleted after the run, according to `keep`


def costs(cells: Sequence[Cell], earlier: Sequence[Cell] = ()) -> dict[Cell, Cost]:
    """Estimate each run by the mean over finished runs of its arm and cell, else of its cell.

    Args:
        earlier: runs of the same cells with older settings; they count for the estimate only.

    Returns:
        The estimates; a cell of which no run has finished has none.
    """
    measured_costs: dict[Cell, Cost] = {}
    for cell in {one.folder: one for one in (*earlier, *cells)}.values():
        cost = measured(cell)
        if cost is not None:
            measured_costs[cell] = cost
    groups = {(cell.cell, cell.arm_in_grid) for cell in cells}
    means = {group: mean for group in groups if (mean := _mean(*group, measured_costs)) is not None}
    return {
        cell: means[cell.cell, cell.arm_in_grid] for cell in cells if (cell.cell, cell.arm_in_grid) in means
    }


def measured(cell: Cell) -> Cost | None:
    """Return the cost of a finished run; None for any other run."""
    manifest = RunFolder(cell.folder).manifest()
    if manifest is None or manifest["status"] != "finished" or "total_seconds" not in manifest:
        return None
    weights = BYTES_OF_WEIGHT * (manifest.get("num_parameters") or 0)
    return Cost(manifest["total_seconds"], folder_bytes(cell.folder, without=MODEL), weights)


def _mean(cell: str, arm: str, measured_costs: Mapping[Cell, Cost]) -> Cost | None:
    of_cell = [(run.arm_in_grid, cost) for run, cost in measured_costs.items() if run.cell == cell]
    chosen = [cost for its_arm, cost in of_cell if its_arm == arm] or [cost for _, cost in of_cell]
    if not chosen:
        return None
    return Cost(
        seconds=fmean(cost.seconds for cost in chosen),
        result_bytes=fmean(cost.result_bytes for cost in chosen),
        weight_bytes=fmean(cost.weight_bytes for cost in chosen),
    )


def folder_bytes(folder: Path, *, without: str = "") -> int:
    """Return the bytes of all files below a folder, except those in its subfolder `without`."""
    total = 0
    for place, folders, files in os.walk(folder):
        if Path(place) == folder and without in folders:
            folders.remove(without)
        for name in files:
            with suppress(FileNotFoundError):  # a running process deletes its older checkpoints
                total += os.lstat(os.path.join(place, name)).st_size
    return total


def duration(seconds: float) -> str:
    """Format a duration: 40 s, 12 min, 3.5 h, 2.1 days."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def size(num_bytes: float) -> str:
    """Format a size: 4 kB, 1.2 GB."""
    for unit, length in (("kB", 1e3), ("MB", 1e6)):
        if num_bytes < 1000 * length:
            return f"{max(1, num_bytes / length):.0f} {unit}"
    return f"{num_bytes / 1e9:.1f} GB"
