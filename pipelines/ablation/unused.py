"""Run folders that no ablation beside them names any more."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from pipelines.ablation.results import read_results
from pipelines.storage import reading
from pipelines.storage.lock import Busy, lock
from pipelines.storage.names import CELLS, LOCK, RUNS


def unused_runs(root: Path) -> list[Path]:
    """Return the folders in `root`/cells that no ablation in `root` names in its grid, search or results.

    Raises:
        UserError: a file that lists runs is damaged, so no run can be called unused.
    """
    named = {name for folder in root.iterdir() if folder.is_dir() for name in _names(folder)}
    cells = root / CELLS
    if not cells.is_dir():
        return []
    return [run for run in sorted(cells.iterdir()) if run.is_dir() and run.name not in named]


def _names(ablation: Path) -> Iterator[str]:
    """Yield the run folders that an ablation names: in its grid, its search and its last results."""
    fix = "mend it or remove its folder, so that the runs that it names are known"
    yield from (reading.json_object_if_there(ablation / RUNS, fix, dict[str, str]) or {}).values()
    for row in (read_results(ablation) or {}).get("comparisons", ()):
        for paths in row["runs"].values():
            yield from (Path(path).name for path in paths if path)


def delete_run(run: Path) -> bool:
    """Delete a run folder unless a process works on it; return whether it was deleted."""
    try:
        with lock(run / LOCK):
            shutil.rmtree(run)
    except Busy:
        return False
    return True
