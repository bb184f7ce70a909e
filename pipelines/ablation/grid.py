"""The grid of an ablation: one run for every cell, arm and seed, each with its hash and folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.ablation.cell import Cell
from pipelines.ablation.trials import Setting, name_of_try, trials
from pipelines.config.load import AblationConfig, RunConfig
from pipelines.errors import UserError
from pipelines.runs import identity
from pipelines.storage import atomic, reading
from pipelines.storage.names import CELLS, RUNS

Key = tuple[str, str]  # cell, arm
FORGET_RUNS = "delete it and start again; runs made with --fresh are then made once more"


@dataclass(frozen=True)
class PlannedRun:
    """A run before it has a folder."""

    cell: str
    arm: str
    seed: int
    config: RunConfig


def plan_cells(
    config: AblationConfig,
    folder: Path,
    *,
    fresh: bool = False,
    chosen: Mapping[Key, Setting] | None = None,
    tries: Sequence[Cell] = (),
) -> list[Cell]:
    """Return every run of the grid, seed by seed, the baseline first so that early results can be compared.

    Args:
        fresh: give each run a new folder, also where the same run exists. `remember_folders` stores the
            choice, so that the ablation can still be stopped and resumed.
        chosen: what a search chose for each cell and arm.
        tries: runs of that search; one that is also a run of the grid is not run twice.

    Raises:
        UserError: two arms are the same run and would share one folder.
    """
    chosen = chosen or {}
    wanted = [
        PlannedRun(cell, arm, seed, config.run_config(cell, arm, seed, searched=chosen.get((cell, arm))))
        for seed in config.seeds
        for cell in config.cells
        for arm in _baseline_first(config)
    ]
    done = {(cell.cell, cell.arm_in_grid, cell.run_hash): cell.folder.name for cell in tries}
    planned = list(_placed(wanted, folder, fresh, done, config.store))
    _refuse_shared_folders(planned)
    return planned


def plan_tries(config: AblationConfig, folder: Path, *, fresh: bool = False) -> list[Cell]:
    """Return every run of the search: each setting that an arm tries, for each cell and search seed."""
    if config.search is None:
        return []
    wanted = [
        PlannedRun(cell, name_of_try(arm, one), seed, config.run_config(cell, arm, seed, searched=one))
        for seed in config.search_seeds
        for cell in config.cells
        for arm in _baseline_first(config)
        for one in trials(config, cell, arm)
    ]
    planned = list(_placed(wanted, folder, fresh, {}, config.store))
    _refuse_shared_folders(planned)
    return planned


def _baseline_first(config: AblationConfig) -> list[str]:
    return sorted(config.arms, key=lambda name: name != config.baseline)


def _placed(
    wanted: Iterable[PlannedRun],
    folder: Path,
    fresh: bool,
    done: Mapping[tuple[str, str, str], str],
    store: str | None,
) -> Iterator[Cell]:
    cells_folder = folder.parent / CELLS
    stored = None if fresh else reading.json_object_if_there(folder / RUNS, FORGET_RUNS, dict[str, str])
    remembered = stored or {}
    taken: set[str] = set()
    for run in wanted:
        digest = identity.run_hash(identity.describe(run.config))
        stem = digest[:16]
        name = done.get((run.cell, run.arm, digest)) or remembered.get(f"{run.cell}/{run.arm}/{run.seed}", "")
        if not name.startswith(stem):
            name = _fresh_name(cells_folder, stem, taken) if fresh else stem
        taken.add(name)
        place = cells_folder / name
        yield Cell(run.cell, run.arm, run.seed, run.config.to_dict(), digest, place, folder, store)


def _fresh_name(cells_folder: Path, stem: str, taken: set[str]) -> str:
    number = 2
    while f"{stem}-r{number}" in taken or (cells_folder / f"{stem}-r{number}").exists():
        number += 1
    return f"{stem}-r{number}"


def _refuse_shared_folders(cells: Sequence[Cell]) -> None:
    by_folder: dict[Path, Cell] = {}
    for cell in cells:
        other = by_folder.setdefault(cell.folder, cell)
        if other is not cell:
            raise UserError(
                "arms",
                f"{other.label} and {cell.label} are the same run, so there is nothing to compare",
                accepted="drop one, or use --fresh to really run both (an A/A test)",
            )


def remember_folders(cells: Sequence[Cell], folder: Path) -> None:
    """Store the folder of each run, so that the ablation can be read without its data and sources."""
    atomic.write_json(
        folder / RUNS, {f"{cell.cell}/{cell.arm}/{cell.seed}": cell.folder.name for cell in cells}
    )
