"""The same search for every arm: what its tries scored on validation, and which learning rate is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from statistics import fmean
from typing import Any

from pipelines.ablation.cell import Cell, Outcome
from pipelines.ablation.grid import name_of_try
from pipelines.config.load import AblationConfig
from pipelines.storage.run_folder import RunFolder


def judge(config: AblationConfig, outcomes: Mapping[Cell, Outcome]) -> dict[str, Any]:
    """The record of a search, JSON-able: `cells` -> cell -> arm -> {tried, chosen, reason}.

    The best mean validation score over the search seeds is chosen, of equal ones the lowest rate. A rate with
    a run that did not finish cannot be chosen; where none finished, the lowest stands, and the runs of the
    ablation show what becomes of it.
    """
    tried = {(cell.cell, cell.arm, cell.seed): (cell, outcome) for cell, outcome in outcomes.items()}
    rates, seeds = sorted(config.search.learning_rate), config.search_seeds
    record: dict[str, Any] = {cell: {} for cell in config.cells}
    for cell, arm in product(config.cells, config.arms):
        runs = {rate: [tried[cell, name_of_try(arm, rate), seed] for seed in seeds] for rate in rates}
        attempts = [_attempt(rate, of_rate) for rate, of_rate in runs.items()]
        record[cell][arm] = {"tried": attempts, **_choice(attempts)}
    return {"seeds": list(seeds), "num_runs_per_arm": len(rates) * len(seeds), "cells": record}


def _attempt(rate: float, runs: Sequence[tuple[Cell, Outcome]]) -> dict[str, Any]:
    return {
        "learning_rate": rate,
        "scores": [RunFolder(cell.folder).validation_score() for cell, _ in runs],
        "status": [outcome.status for _, outcome in runs],
        "runs": [cell.folder.name for cell, _ in runs],
    }


def _choice(attempts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    whole = [one for one in attempts if set(one["status"]) == {"finished"} and None not in one["scores"]]
    if not whole:
        return {"chosen": attempts[0]["learning_rate"], "reason": "no rate finished; the lowest was taken"}
    best = max(whole, key=lambda one: fmean(one["scores"]))
    at_edge = best is attempts[0] or best is attempts[-1]
    reason = "best on validation" + "; the search ends at it, a better rate may lie beyond" * at_edge
    return {"chosen": best["learning_rate"], "reason": reason}
