"""Read an ablation folder: its configuration and the run folders that it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipelines.ablation.cell import Cell, Outcome, outcome_of
from pipelines.ablation.search import chosen_rates
from pipelines.config.load import AblationConfig, ablation_from_dict
from pipelines.errors import UserError, as_clause
from pipelines.storage.atomic import read_json
from pipelines.storage.names import ABLATION, CELLS, RUNS, SEARCH
from pipelines.storage.paths import inside


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
    rates = _rates(folder, config)
    runs = [_cell(folder, name, label, config, rates) for label, name in names.items() if _has(config, label)]
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
    return _cell(folder, run, label, config, _rates(folder, config))


def _read(folder: Path) -> tuple[AblationConfig, dict[str, str]]:
    """Return the configuration of an ablation, and its run folders' names by label (`RUNS`).

    Raises:
        UserError: it is not an ablation folder, or a file is damaged or names a run outside `CELLS`.
    """
    for name in (ABLATION, RUNS):
        if not (folder / name).is_file():
            what = f"is not the folder of an ablation: it has no {name}"
            raise UserError(str(folder), what, accepted="name the --out of attnlab ablate")
    try:
        values = yaml.safe_load((folder / ABLATION).read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(str(folder / ABLATION), f"is damaged: {as_clause(error)}") from error
    names = read_json(folder / RUNS)
    for name in names.values():
        inside(folder.parent / CELLS, name, str(folder / RUNS))
    return ablation_from_dict(values), names


def _rates(folder: Path, config: AblationConfig) -> dict[tuple[str, str], float]:
    """Return the learning rates that the search has chosen; none without a search, or before its end."""
    return chosen_rates(read_json(folder / SEARCH)) if config.search and (folder / SEARCH).exists() else {}


def _has(config: AblationConfig, label: str) -> bool:
    """Whether a label of `RUNS` belongs to the ablation as it is configured now."""
    cell, shown, seed = label.rsplit("/", 2)
    arm, _, rate = shown.partition(" at ")
    seeds = config.search_seeds if rate else config.seeds
    return cell in config.cells and arm in config.arms and int(seed) in seeds


def _cell(
    folder: Path, name: str, label: str, config: AblationConfig, rates: Mapping[tuple[str, str], float]
) -> Cell:
    """Return the run of a label in `RUNS`; the arm of a run of the search is "arm at rate"."""
    cell, shown, seed = label.rsplit("/", 2)
    arm, _, rate = shown.partition(" at ")
    chosen = float(rate) if rate else rates.get((cell, arm))
    settings = config.run_config(cell, arm, int(seed), learning_rate=chosen).to_dict()
    path = folder.parent / CELLS / name
    return Cell(cell, shown, int(seed), settings, name.partition("-")[0], path, folder)
