"""The grid of an ablation: every arm, seed and cell as one run with its hash and its folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from pipelines import durable, identity
from pipelines.config import AblationConfig
from pipelines.errors import UserError
from pipelines.executors.cell import Cell
from pipelines.results import RunFolder


def plan_cells(config: AblationConfig, folder: Path, *, fresh: bool = False) -> list[Cell]:
    """Every run of the grid with its hash and folder, stock first so that early results are useful.

    `fresh` gives each run a folder of its own that no earlier run used; the choice is remembered in
    `runs.json`, so that the ablation can still be stopped and started.

    Raises:
        UserError: two arms are the same run and would share one folder.
    """
    cells_folder = folder.parent / "cells"
    remembered = {} if fresh else _remembered(folder)
    taken: set[str] = set()
    planned = []
    for seed in config.seeds:
        for cell in config.cells:
            for arm in sorted(config.arms, key=lambda name: name != config.baseline):
                run_config = config.run_config(cell, arm, seed)
                digest = identity.run_hash(identity.describe(run_config))
                name = remembered.get(f"{cell}/{arm}/{seed}", "")
                if not name.startswith(digest[:16]):
                    name = _fresh_name(cells_folder, digest[:16], taken) if fresh else digest[:16]
                planned.append(
                    Cell(
                        cell,
                        arm,
                        seed,
                        run_config.to_dict(),
                        digest,
                        cells_folder / name,
                        folder.parent / "cache",
                    )
                )
                taken.add(name)
    _refuse_shared_folders(planned)
    return planned


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
                f"{other.label} and {cell.label} are the same run, so comparing them would say nothing",
                accepted="drop one, or use --fresh to really run both (an A/A test)",
            )


def _remembered(folder: Path) -> dict[str, str]:
    path = folder / "runs.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def remember_folders(cells: Sequence[Cell], folder: Path) -> None:
    durable.write_json(
        folder / "runs.json", {f"{cell.cell}/{cell.arm}/{cell.seed}": cell.folder.name for cell in cells}
    )


def print_plan(cells: Sequence[Cell], console: Console) -> None:
    """Every run with its hash and whether it is there."""
    for cell in cells:
        manifest = RunFolder(cell.folder).manifest()
        state = manifest["status"] if manifest else "to run"
        console.print(f"{cell.run_hash[:16]}  {state:9}  {cell.label}", markup=False, soft_wrap=True)
