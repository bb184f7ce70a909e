"""Run folders that no ablation beside them names any more: found, and removed when asked to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from pipelines.ablation import cost
from pipelines.ablation.folder import open_ablation
from pipelines.storage.atomic import read_json
from pipelines.storage.lock import Busy, lock
from pipelines.storage.names import CELLS, LOCK, RESULTS, RUNS


def unused_command(folder: str, *, delete: bool) -> None:
    """`attnlab status DIR --unused`: list such folders; with `delete`, remove them."""
    console = Console(highlight=False)
    open_ablation(Path(folder))
    runs = Path(folder).parent
    found = unused(runs)
    total = 0
    for cell in found:
        num_bytes = cost.size_of(cell)
        verb = "unused"
        if delete:
            verb = "deleted" if remove(cell) else "in use, stays"
        total += num_bytes * (verb != "in use, stays")
        console.print(f"{verb}  {cost.size(num_bytes):>8}  {cell}", markup=False, soft_wrap=True)
    counted = f"{len(found)} run folders that no ablation in {runs} names, {cost.size(total)}"
    advice = "" if delete or not found else "; --delete removes them"
    console.print((counted if found else f"every run folder in {runs} is in use") + advice, soft_wrap=True)


def unused(runs: Path) -> list[Path]:
    """Folders under `runs`/cells that neither the grid nor the results of any ablation in `runs` name.

    Raises:
        UserError: a list of an ablation is damaged, so that nothing can be called unused.
    """
    named = {name for folder in runs.iterdir() if folder.is_dir() for name in _names(folder)}
    cells = runs / CELLS
    return (
        [cell for cell in sorted(cells.iterdir()) if cell.is_dir() and cell.name not in named]
        if cells.is_dir()
        else []
    )


def _names(ablation: Path) -> Iterator[str]:
    """Run folders that an ablation folder names: of its grid and search, and of its last report."""
    yield from (read_json(ablation / RUNS) or {}).values()
    for row in (read_json(ablation / RESULTS) or {}).get("comparisons", ()):
        for paths in row["runs"].values():
            yield from (Path(path).name for path in paths if path)


def remove(cell: Path) -> bool:
    """Remove a run folder unless a process works on it; whether it is gone."""
    try:
        with lock(cell / LOCK):
            shutil.rmtree(cell)
    except Busy:
        return False
    return True
