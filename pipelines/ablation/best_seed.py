"""The best seed of each arm: the run whose chosen checkpoint scored highest on validation."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pipelines.ablation.cell import Cell
from pipelines.storage.run_folder import RunFolder


def best_seeds(cells: Iterable[Cell]) -> dict[tuple[str, str], Cell]:
    """Return the best of the given finished runs for each (cell, arm).

    The score is the primary metric on validation, signed so that more is better. Of equal scores the first
    run wins; a run without a score loses to every run that has one.
    """
    best: dict[tuple[str, str], Cell] = {}
    for cell in cells:
        rival = best.setdefault((cell.cell, cell.arm), cell)
        if _score(cell) > _score(rival):
            best[cell.cell, cell.arm] = cell
    return best


def _score(cell: Cell) -> float:
    score = RunFolder(cell.folder).validation_score()
    return -math.inf if score is None else score
