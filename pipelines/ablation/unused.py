"""Run folders that no ablation beside them names any more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipelines.ablation.results import read_results
from pipelines.errors import UserError
from pipelines.storage import reading
from pipelines.storage.lock import Busy
from pipelines.storage.names import CELLS, REGISTRATION, RUNS
from pipelines.storage.removal import remove_run


def unused_runs(root: Path) -> list[Path]:
    """Return the folders in `root`/cells that no ablation in `root` names in its grid, search or results.

    Raises:
        UserError: a file that lists runs is damaged, so no run can be called unused.
    """
    named = {name for folder in root.iterdir() if folder.is_dir() for name in _names(folder)}
    cells = root / CELLS
    if not cells.is_dir():
        return []
    folders = [path for path in sorted(cells.iterdir()) if path.is_dir() and not path.is_symlink()]
    return [run for run in folders if run.name not in named]


def _names(ablation: Path) -> Iterator[str]:
    """Yield the run folders that an ablation names: in its grid, its search and its last results.

    Raises:
        UserError: one of these files is damaged, or the ablation has lost its list of runs.
    """
    if reading.is_there(ablation / REGISTRATION) and not reading.is_there(ablation / RUNS):
        what = f"has {REGISTRATION}, but no {RUNS}, so nobody knows which runs it uses"
        fix = "the same attnlab ablate FILE writes it again; or remove this folder"
        raise UserError(str(ablation), what, accepted=fix)
    fix = "mend it or remove its folder, so that the runs that it names are known"
    yield from (reading.json_object_if_there(ablation / RUNS, fix, dict[str, str]) or {}).values()
    for row in (read_results(ablation) or {}).get("comparisons", ()):
        for paths in row["runs"].values():
            yield from (Path(path).name for path in paths if path)


def delete_run(run: Path) -> str | None:
    """Delete a run folder; return why it was kept, None if it was deleted."""
    try:
        remove_run(run)
    except Busy:
        return "in use"
    except UserError as error:
        return error.what
    return None
