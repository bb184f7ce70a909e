"""The search: the validation scores of its runs, and the setting chosen for each arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any, NotRequired, cast

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from pipelines.ablation.cell import Cell, Outcome, Status
from pipelines.ablation.grid import Key
from pipelines.ablation.trials import LEARNING_RATE, Setting, name_of_try, trials
from pipelines.config.load import AblationConfig
from pipelines.storage import reading
from pipelines.storage.names import SEARCH
from pipelines.storage.run_folder import RunFolder
from pipelines.storage.sealed import DIGEST, require_intact


class Attempt(TypedDict):
    """One setting of one arm; every list has an entry per search seed."""

    learning_rate: float
    settings: NotRequired[dict[str, Any]]  # what else is searched: variant_learning_rate, "gate.start"
    scores: list[float | None]
    status: list[Status]
    runs: list[str]  # names of run folders


class Choice(TypedDict):
    """The settings that an arm tried in one cell, and the chosen one."""

    tried: list[Attempt]
    chosen: float  # learning rate
    settings: NotRequired[dict[str, Any]]  # the chosen ones of what else is searched
    reason: str


class SearchRecord(TypedDict):
    """The content of search.json; `cells` is cell -> arm -> choice."""

    seeds: list[int]
    num_runs_per_arm: int  # of the arm with the fewest
    cells: dict[str, dict[str, Choice]]


def judge(config: AblationConfig, outcomes: Mapping[Cell, Outcome]) -> SearchRecord:
    """Choose a setting for each cell and arm.

    The best mean validation score over the search seeds is chosen; of equal scores the lowest rate. A setting
    with a run that did not finish cannot be chosen. If none finished, the lowest is taken: the runs of the
    grid then diverge or fail, and the report shows it.
    """
    tried = {(cell.cell, cell.arm, cell.seed): (cell, outcome) for cell, outcome in outcomes.items()}
    seeds = config.search_seeds
    cells: dict[str, dict[str, Choice]] = {cell: {} for cell in config.cells}
    for cell, arm in product(config.cells, config.arms):
        attempts = [
            _attempt(setting, [tried[cell, name_of_try(arm, setting), seed] for seed in seeds])
            for setting in trials(config, cell, arm)
        ]
        cells[cell][arm] = _choice(attempts)
    fewest = min(len(choice["tried"]) for arms in cells.values() for choice in arms.values())
    return {"seeds": list(seeds), "num_runs_per_arm": fewest * len(seeds), "cells": cells}


def read_search(folder: Path) -> SearchRecord | None:
    """Return the record of the search of an ablation; None before its end.

    Raises:
        UserError: the file is damaged.
    """
    fix = "delete it; attnlab ablate then chooses again from the runs of the search, which are kept"
    found: dict[str, Any] | None = reading.json_object_if_there(folder / SEARCH, fix, SearchRecord)
    if found is None:
        return None
    require_intact(found, folder / SEARCH, fix)
    return cast(SearchRecord, {name: value for name, value in found.items() if name != DIGEST})


def chosen_settings(record: SearchRecord) -> dict[Key, Setting]:
    """Return what was chosen for every (cell, arm)."""
    cells = record["cells"].items()
    return {(cell, arm): setting_of(choice) for cell, arms in cells for arm, choice in arms.items()}


def setting_of(choice: Mapping[str, Any]) -> Setting:
    """Return the setting that was chosen, as `trials` has it."""
    return {LEARNING_RATE: choice["chosen"], **choice.get("settings", {})}


def _attempt(setting: Setting, runs: Sequence[tuple[Cell, Outcome]]) -> Attempt:
    others = {name: value for name, value in setting.items() if name != LEARNING_RATE}
    attempt: Attempt = {
        "learning_rate": setting[LEARNING_RATE],
        "scores": [RunFolder(cell.folder).validation_score() for cell, _ in runs],
        "status": [outcome.status for _, outcome in runs],
        "runs": [cell.folder.name for cell, _ in runs],
    }
    if others:
        attempt["settings"] = others
    return attempt


def _choice(tried: list[Attempt]) -> Choice:
    best, best_mean = None, 0.0
    for attempt in tried:
        scores = [score for score in attempt["scores"] if score is not None]
        if set(attempt["status"]) != {"finished"} or len(scores) < len(attempt["scores"]):
            continue
        if best is None or fmean(scores) > best_mean:
            best, best_mean = attempt, fmean(scores)
    if best is None:
        best, reason = tried[0], "no rate finished; the lowest was taken"
    else:
        reason = f"best on validation{_at_edge(best, tried)}"
    choice: Choice = {"tried": tried, "chosen": best["learning_rate"], "reason": reason}
    if "settings" in best:
        choice["settings"] = best["settings"]
    return choice


def _at_edge(best: Attempt, tried: Sequence[Attempt]) -> str:
    """Return a clause on the numbers of the best setting that are the lowest or the highest tried."""
    flat = [{LEARNING_RATE: one["learning_rate"], **one.get("settings", {})} for one in tried]
    values = {name: {one[name] for one in flat} for name in flat[0]}
    of_best = flat[tried.index(best)]
    edges = [
        name
        for name, found in values.items()
        if len(found) > 1 and all(type(value) in (int, float) for value in found)
        if of_best[name] in (min(found), max(found))
    ]
    others = f" ({', '.join(edges)})" if edges and edges != [LEARNING_RATE] else ""
    return f"; at the edge of the search, a better rate may lie beyond{others}" if edges else ""
