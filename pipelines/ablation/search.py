"""The learning-rate search: the validation scores of its runs and the rate chosen for each arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from pipelines.ablation.cell import Cell, Outcome, Status
from pipelines.ablation.grid import name_of_try
from pipelines.config.load import AblationConfig
from pipelines.storage import reading
from pipelines.storage.names import SEARCH
from pipelines.storage.run_folder import RunFolder
from pipelines.storage.sealed import require_intact


class Attempt(TypedDict):
    """One learning rate of one arm; every list has an entry per search seed."""

    learning_rate: float
    scores: list[float | None]
    status: list[Status]
    runs: list[str]  # names of run folders


class Choice(TypedDict):
    """The rates that an arm tried in one cell, and the chosen one."""

    tried: list[Attempt]
    chosen: float
    reason: str


class SearchRecord(TypedDict):
    """The content of search.json; `cells` is cell -> arm -> choice."""

    seeds: list[int]
    num_runs_per_arm: int
    cells: dict[str, dict[str, Choice]]


def judge(config: AblationConfig, outcomes: Mapping[Cell, Outcome]) -> SearchRecord:
    """Choose a learning rate for each cell and arm.

    The best mean validation score over the search seeds is chosen; of equal scores the lowest rate. A rate
    with a run that did not finish cannot be chosen. If no rate finished, the lowest is taken: the runs of
    the grid then diverge or fail, and the report shows it.
    """
    assert config.search is not None
    tried = {(cell.cell, cell.arm, cell.seed): (cell, outcome) for cell, outcome in outcomes.items()}
    rates, seeds = sorted(config.search.learning_rate), config.search_seeds
    cells: dict[str, dict[str, Choice]] = {cell: {} for cell in config.cells}
    for cell, arm in product(config.cells, config.arms):
        runs = {rate: [tried[cell, name_of_try(arm, rate), seed] for seed in seeds] for rate in rates}
        cells[cell][arm] = _choice([_attempt(rate, of_rate) for rate, of_rate in runs.items()])
    return {"seeds": list(seeds), "num_runs_per_arm": len(rates) * len(seeds), "cells": cells}


def read_search(folder: Path) -> SearchRecord | None:
    """Return the record of the search of an ablation; None before its end.

    Raises:
        UserError: the file is damaged.
    """
    fix = "delete it; attnlab ablate then chooses again from the runs of the search, which are kept"
    found: SearchRecord | None = reading.json_object_if_there(folder / SEARCH, fix, SearchRecord)
    if found is not None:
        require_intact(found, folder / SEARCH, fix)
    return found


def chosen_rates(record: SearchRecord) -> dict[tuple[str, str], float]:
    """Return the chosen learning rate of every (cell, arm)."""
    cells = record["cells"].items()
    return {(cell, arm): choice["chosen"] for cell, arms in cells for arm, choice in arms.items()}


def _attempt(rate: float, runs: Sequence[tuple[Cell, Outcome]]) -> Attempt:
    return {
        "learning_rate": rate,
        "scores": [RunFolder(cell.folder).validation_score() for cell, _ in runs],
        "status": [outcome.status for _, outcome in runs],
        "runs": [cell.folder.name for cell, _ in runs],
    }


def _choice(tried: list[Attempt]) -> Choice:
    best, best_mean = None, 0.0
    for attempt in tried:
        scores = [score for score in attempt["scores"] if score is not None]
        if set(attempt["status"]) != {"finished"} or len(scores) < len(attempt["scores"]):
            continue
        if best is None or fmean(scores) > best_mean:
            best, best_mean = attempt, fmean(scores)
    if best is None:
        reason = "no rate finished; the lowest was taken"
        return {"tried": tried, "chosen": tried[0]["learning_rate"], "reason": reason}
    at_edge = best is tried[0] or best is tried[-1]
    reason = "best on validation" + "; at the edge of the search, a better rate may lie beyond" * at_edge
    return {"tried": tried, "chosen": best["learning_rate"], "reason": reason}
