"""Hold the files of a run that has ended against the hashes in its manifest."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.errors import UserError, raise_all
from pipelines.storage import atomic
from pipelines.storage.names import MANIFEST, MODEL, RUN
from pipelines.storage.paths import inside
from pipelines.storage.reading import is_there

Manifest = Mapping[str, Any]


def differences(
    folder: Path, manifest: Manifest, wanted: Callable[[str], bool] = lambda name: True
) -> Iterator[tuple[str, str]]:
    """Yield (name, what is wrong) of every listed file that is not as the run wrote it.

    Args:
        wanted: which of the names to check.

    Raises:
        UserError: the manifest names a file outside of the folder.
    """
    for name, digest in manifest.get("files", {}).items():
        file = inside(folder, name, str(folder / MANIFEST))
        problem = _problem(file, digest) if wanted(name) else None
        if problem is not None:
            yield name, problem


def require(
    folder: Path, manifest: Manifest, wanted: Callable[[str], bool] = lambda name: True, remedy: str = ""
) -> None:
    """Refuse a run of which a file is not as it was written.

    Args:
        remedy: the command that mends it; "": the one that trains the run again.

    Raises:
        UserError: it names every such file.
    """
    found = differences(folder, manifest, wanted)
    fix = remedy or train_again(folder)
    raise_all([UserError(str(folder / name), what, accepted=fix) for name, what in found])


def refuse_links(folder: Path, manifest: Manifest, others: tuple[str, ...] = ()) -> None:
    """Refuse a run in which a file, or a folder of it, is a link: its target may be anything of this machine.

    Args:
        others: names of files that the manifest does not list.

    Raises:
        UserError: it names every link.
    """
    names = {part.as_posix() for name in (*manifest["files"], *others) for part in _with_folders(name)}
    fix = "put the file itself there"
    links = [folder / name for name in sorted(names) if (folder / name).is_symlink()]
    raise_all([UserError(str(link), "is a link", accepted=fix) for link in links])


def is_of_model(name: str) -> bool:
    """Return whether a listed file belongs to the model, which an ablation may drop."""
    return name.startswith(f"{MODEL}/")


def is_result(name: str) -> bool:
    """Return whether a listed file is a result: everything but the model."""
    return not is_of_model(name)


def train_again(folder: Path) -> str:
    """Return the clause that mends a run: the command that makes its files again."""
    words = ["attnlab", "train", str(folder / RUN), "--out", str(folder), "--fresh"]
    return f"put the file back, or make the run again: {shlex.join(words)}"


def _problem(file: Path, digest: str) -> str | None:
    if not is_there(file):
        return "is missing"
    if not file.is_file():
        if file.exists():
            return "is a folder, not a file" if file.is_dir() else "is a pipe or a device, not a file"
        return "is a link to a file that is missing"
    try:
        return None if atomic.sha256_of(file) == digest else "has changed since the run finished"
    except OSError as error:
        return f"cannot be read ({(error.strerror or str(error)).lower()})"


def _with_folders(name: str) -> Iterator[Path]:
    path = Path(name)
    yield path
    yield from (parent for parent in path.parents if parent.name)
