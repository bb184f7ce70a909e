"""Temporary names beside the files that they become, and the removal of those that a kill has left."""

from __future__ import annotations

import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = re.compile(r"\.(?P<of>.+)\.[0-9a-f]{8}\.tmp")
SECONDS_UNUSED = 60.0  # a temporary file that has not changed for so long is nobody's
SECONDS_OF_A_WRITE = 1.0  # the same where one process at a time writes, because it holds a lock


def beside(path: Path) -> Path:
    """Return an unused hidden name beside a path, for what is renamed to it when it is complete."""
    # Random, because a process id is not unique across the machines that share a folder.
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Make an empty folder beside a path for a block; what is then still there is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, of=path.name)
    folder = beside(path)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # made above, under a name of its own


def sweep(folder: Path, seconds: float = SECONDS_UNUSED, *, of: str | None = None) -> None:
    """Remove the temporary files and folders that a killed process has left in a folder.

    Args:
        seconds: how long they have not changed.
        of: only those of this file or folder.
    """
    for path in sorted(folder.glob(".*.tmp")):
        found = NAME.fullmatch(path.name)
        if found is None or path.is_symlink() or (of is not None and found["of"] != of):
            continue
        try:
            if time.time() - _last_change(path) < seconds:
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError:  # another process was faster, or the folder is read-only
            continue


def _last_change(path: Path) -> float:
    """Return when a file, or the newest part of a folder, was last changed."""
    return max(part.lstat().st_mtime for part in (path, *path.rglob("*")))
