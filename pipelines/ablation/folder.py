"""Read an ablation folder: its configuration and the run folders that it names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.ablation.cell import Cell, Outcome, outcome_of
from pipelines.ablation.grid import Key
from pipelines.ablation.search import chosen_settings, read_search
from pipelines.ablation.trials import Setting, name_of_try, trials
from pipelines.config.load import AblationConfig, ablation_from_dict
from pipelines.errors import UserError
from pipelines.storage import reading
from pipelines.storage.names import ABLATION, CELLS, RUNS, SEARCH
from pipelines.storage.paths import inside

LABEL = re.compile(r".+/[^/]+/\d+")  # cell/arm/seed; a run of the search has "arm at setting"


@dataclass(frozen=True)
class StoredAblation:
    """The ablation in a folder, with every run that it has planned."""

    folder: Path
    config: AblationConfig
    cells: tuple[Cell, ...]
    tries: tuple[Cell, ...] = ()  # runs of its search; one may also be a run of the grid

    def outcomes(self) -> dict[Cell, Outcome]:
        """Return the outcome of every run of the grid; an unfinished run counts as interrupted."""
        return {cell: outcome_of(cell) for cell in self.cells}


def open_ablation(folder: Path) -> StoredAblation:
    """Read an ablation folder, without its data, models or sources.

    Raises:
        UserError: it is not an ablation folder, or one of its files is damaged.
    """
    config, names = _read(folder)
    chosen = _chosen(folder, config, names)
    runs = [
        _cell(folder, name, label, config, chosen) for label, name in names.items() if _has(config, label)
    ]
    cells, arms = list(config.cells), list(config.arms)
    runs.sort(key=lambda run: (cells.index(run.cell), arms.index(run.arm_in_grid), run.arm, run.seed))
    grid = tuple(run for run in runs if run.arm in config.arms)
    return StoredAblation(folder, config, grid, tuple(run for run in runs if run.arm not in config.arms))


def find_cell(folder: Path, name: str) -> Cell:
    """Return the one run of an ablation whose folder's name is, or begins with, `name`.

    Raises:
        UserError: there is no such run, or several; or the folder is not an ablation's.
    """
    config, names = _read(folder)
    found = {run: label for label, run in names.items() if run.startswith(name) and _has(config, label)}
    if name in found:
        found = {name: found[name]}
    if len(found) != 1:
        what = f"{len(found) or 'no'} runs of {folder} have a name that begins with {name!r}"
        raise UserError("run-cell", what, accepted="attnlab ablate FILE --dry-run lists them")
    [(run, label)] = found.items()
    return _cell(folder, run, label, config, _chosen(folder, config, names))


def _read(folder: Path) -> tuple[AblationConfig, dict[str, str]]:
    """Return the configuration of an ablation, and its run folders' names by label (`RUNS`).

    Raises:
        UserError: it is not an ablation folder, or a file is damaged or names a run outside `CELLS`.
    """
    for name in (ABLATION, RUNS):
        if not reading.is_there(folder / name):
            what = f"is not the folder of an ablation: it has no {name}"
            raise UserError(str(folder), what, accepted="name the --out of attnlab ablate")
    fix = written_by_ablate(folder)
    values = reading.yaml_mapping(folder / ABLATION, fix)
    names = reading.json_object(folder / RUNS, fix, dict[str, str])
    for label, name in names.items():
        inside(folder.parent / CELLS, name, str(folder / RUNS))
        if not LABEL.fullmatch(label):
            raise UserError(str(folder / RUNS), "names a run that is no cell/arm/seed", label, fix)
    try:
        return ablation_from_dict(values), names
    except UserError as error:  # its places are keys of the stored settings
        raise UserError(f"{folder / ABLATION}, {error.where}", error.what, error.came, fix) from error


def written_by_ablate(folder: Path) -> str:
    """Return the clause that mends a file which `attnlab ablate` writes at its start."""
    return f"the same attnlab ablate FILE --out {shlex.quote(str(folder))} writes it again"


def _chosen(folder: Path, config: AblationConfig, names: Mapping[str, str]) -> dict[Key, Setting]:
    """Return what the search has chosen; nothing without a search, or before its end.

    Raises:
        UserError: the record of the search is damaged, or missing although runs of the grid are planned.
    """
    record = read_search(folder) if config.search else None
    if record is not None:
        return chosen_settings(record)
    if config.search and any(label.split("/")[-2] in config.arms for label in names):
        raise UserError(str(folder / SEARCH), "is missing", accepted=written_by_ablate(folder))
    return {}


def _has(config: AblationConfig, label: str) -> bool:
    """Whether a label of `RUNS` belongs to the ablation as it is configured now."""
    cell, shown, seed = label.rsplit("/", 2)
    arm, _, tried = shown.partition(" at ")
    if cell not in config.cells or arm not in config.arms:
        return False
    if not tried:
        return int(seed) in config.seeds
    return int(seed) in config.search_seeds and shown in _tries(config, cell, arm)


def _tries(config: AblationConfig, cell: str, arm: str) -> dict[str, Setting]:
    """Return what an arm tries in a search, by the arm of the run that tries it."""
    return {name_of_try(arm, setting): setting for setting in trials(config, cell, arm)}


def _cell(folder: Path, name: str, label: str, config: AblationConfig, chosen: Mapping[Key, Setting]) -> Cell:
    """Return the run of a label in `RUNS`; the arm of a run of the search is "arm at setting"."""
    cell, shown, seed = label.rsplit("/", 2)
    arm, _, tried = shown.partition(" at ")
    setting = _tries(config, cell, arm)[shown] if tried else chosen.get((cell, arm))
    settings = config.run_config(cell, arm, int(seed), searched=setting).to_dict()
    path = folder.parent / CELLS / name
    return Cell(cell, shown, int(seed), settings, name.partition("-")[0], path, folder, config.store)
