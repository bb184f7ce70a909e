"""What the finished runs of a cell must share, and must not: references, and every number of a training.

A run whose hashes were made again is in order by itself. Beside the others it is not: it was scored against
other references, or it is another seed's run under its name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipelines.ablation.cell import Cell
from pipelines.errors import UserError
from pipelines.storage import reading, run_files
from pipelines.storage.names import METRICS_LOG, PREDICTIONS
from pipelines.storage.records import PredictionEntry
from pipelines.storage.sealed import digest

Lines = list[dict[str, object]]


def differences(cells: Iterable[Cell]) -> Iterator[str]:
    """Yield what finished runs do not share with the first of their cell, or share with another seed.

    A run that cannot be read is passed over: it is named as damaged. A pushed record has no predictions.
    """
    references: dict[tuple[str, str], tuple[str, list[str]]] = {}  # of cell and split: label, one per example
    trained: dict[tuple[str, str, str], str] = {}  # of cell, arm and all numbers: label
    for cell in cells:
        numbers = [_losses(cell.folder)]
        for split in ("validation", "test"):
            lines = _read(cell.folder, PREDICTIONS.format(split), PredictionEntry)
            numbers.append([line["prediction"] for line in lines])
            own = [json.dumps([line["id"], line["reference"]], sort_keys=True) for line in lines]
            if not own:
                continue
            label, first = references.setdefault((cell.cell, split), (cell.label, own))
            if own != first:
                place = next(
                    (at for at, pair in enumerate(zip(own, first)) if pair[0] != pair[1]), len(first)
                )
                where = f"{PREDICTIONS.format(split)}, line {place + 1}"
                yield f"{cell.label}: {where}: has another reference than {label}"
        if all(numbers):
            label = trained.setdefault((cell.cell, cell.arm, digest({"numbers": numbers})), cell.label)
            if label != cell.label:
                yield f"{cell.label}: has all losses and predictions of {label}: a copy, or its seed is idle"


def _losses(folder: Path) -> list[object]:
    return [event["loss"] for event in _read(folder, METRICS_LOG, dict) if event.get("event") == "step"]


def _read(folder: Path, name: str, kind: type) -> Lines:
    """Return the lines of a file of a run; none where it has none that can be read."""
    if not reading.is_there(folder / name):
        return []
    try:
        return reading.json_lines(folder / name, run_files.train_again(folder), kind, cut=True)
    except UserError:
        return []
