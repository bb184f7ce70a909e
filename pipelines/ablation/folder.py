"""An ablation folder read back: what it states, which run folders it names, and how each of them stands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines.ablation.cell import Cell, Outcome, outcome_of
from pipelines.config.load import AblationConfig, ablation_from_dict
from pipelines.errors import UserError
from pipelines.storage.atomic import _clause, read_json
from pipelines.storage.names import ABLATION, CELLS, RUNS, SEARCH
from pipelines.storage.paths import inside


@dataclass(frozen=True)
class StoredAblation:
    """The ablation that a folder holds, with every run of its grid where `attnlab ablate` put it."""

    folder: Path
    config: AblationConfig
    cells: tuple[Cell, ...]
    tries: tuple[Cell, ...] = ()  # runs of its search; one may be a run of the grid too

    def outcomes(self) -> dict[Cell, Outcome]:
        """How every run of the grid stands; one that is not over counts as interrupted."""
        return {cell: outcome_of(cell) for cell in self.cells}


def open_ablation(folder: Path) -> StoredAblation:
    """Read an ablation folder; neither data, models nor sources are looked at.

    Raises:
        UserError: it is no ablation folder, or one of its files is damaged.
    """
    config, names = _read(folder)
    rates = _rates(folder, config)
    runs = [_cell(folder, name, label, config, rates) for label, name in names.items() if _in(config, label)]
    cells, arms = ({name: place for place, name in enumerate(all_)} for all_ in (config.cells, config.arms))
    runs.sort(key=lambda run: (cells[run.cell], arms[run.arm.partition(" ")[0]], run.arm, run.seed))
    grid, tries = ([run for run in runs if (run.arm in config.arms) == in_grid] for in_grid in (True, False))
    return StoredAblation(folder, config, tuple(grid), tuple(tries))


def find_cell(folder: Path, name: str) -> Cell:
    """The one run of an ablation whose folder is called `name`, or begins so.

    Raises:
        UserError: no run, or several; or the folder is no ablation's.
    """
    config, names = _read(folder)
    found = {run: label for label, run in names.items() if run.startswith(name) and _in(config, label)}
    if name in found:
        found = {name: found[name]}
    if len(found) != 1:
        what = f"{len(found) or 'no'} runs of {folder} have a name that begins with {name!r}"
        raise UserError("run-cell", what, accepted="attnlab ablate FILE --dry-run lists them")
    [(run, label)] = found.items()
    return _cell(folder, run, label, config, _rates(folder, config))


def _read(folder: Path) -> tuple[AblationConfig, dict[str, str]]:
    """What an ablation folder states, and the name of the folder of each of its runs.

    Raises:
        UserError: it is no ablation folder, one of its files is damaged, or names a run elsewhere.
    """
    for name in (ABLATION, RUNS):
        if not (folder / name).is_file():
            what = f"is no folder of an ablation: it has no {name}"
            raise UserError(str(folder), what, accepted="name the --out of attnlab ablate")
    try:
        values = yaml.safe_load((folder / ABLATION).read_text(encoding="utf-8"))
        names = json.loads((folder / RUNS).read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(str(folder), f"{ABLATION} or {RUNS} is damaged: {_clause(error)}") from error
    for name in names.values():
        inside(folder.parent / CELLS, name, str(folder / RUNS))
    return ablation_from_dict(values), names


def _rates(folder: Path, config: AblationConfig) -> dict[tuple[str, str], float]:
    """The learning rates that a search has chosen; none without a search, or before its end."""
    return rates_of(read_json(folder / SEARCH)) if config.search and (folder / SEARCH).exists() else {}


def _in(config: AblationConfig, label: str) -> bool:
    """Whether a line of runs.json is of the ablation as it stands now."""
    cell, shown, seed = label.rsplit("/", 2)
    arm, _, rate = shown.partition(" at ")
    seeds = config.search_seeds if rate else config.seeds
    return cell in config.cells and arm in config.arms and int(seed) in seeds


def _cell(
    folder: Path, name: str, label: str, config: AblationConfig, rates: Mapping[tuple[str, str], float]
) -> Cell:
    """The run behind a line of runs.json: of the grid, or of the search (whose arm is "arm at rate")."""
    cell, shown, seed = label.rsplit("/", 2)
    arm, _, rate = shown.partition(" at ")
    chosen = float(rate) if rate else rates.get((cell, arm))
    settings = config.run_config(cell, arm, int(seed), learning_rate=chosen).to_dict()
    path = folder.parent / CELLS / name
    return Cell(cell, shown, int(seed), settings, name.partition("-")[0], path, folder)


def rates_of(record: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """The learning rate that a recorded search (`search.json`) chose for every cell and arm."""
    cells = record["cells"].items()
    return {(cell, arm): found["chosen"] for cell, arms in cells for arm, found in arms.items()}
