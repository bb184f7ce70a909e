"""Paths that users and records name: rows of a file, paths in messages, paths inside a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PureWindowsPath

from pipelines.errors import UserError
from pipelines.storage.names import IDENTITY, REGISTRATION

DEPTH = 3  # of a file in the folder of a run: checkpoints/step-5/state.json
PART = re.compile(r"(?P<path>.+?)\[(?P<begin>-?\d+%?)?:(?P<end>-?\d+%?)?\]")


def split_part(text: str) -> tuple[str, str]:
    """Split "a.csv[:80%]" into a file and its rows: ("a.csv", "[:80%]"); "a.csv" alone has the rows ""."""
    found = PART.fullmatch(text)
    if found is None or os.path.exists(text):
        return text, ""
    return found["path"], text[len(found["path"]) :]


def files_of(value: str | Mapping[str, str] | None) -> list[str]:
    """Return the files that a setting names: one, one for each column, or none."""
    return [] if value is None else [value] if isinstance(value, str) else list(value.values())


def rows_of_part(part: str, num_rows: int) -> range:
    """Return the rows of a range such as "[100:]" or "[:80%]", counted as in the library `datasets`.

    Rows count from 0, the end is exclusive, negative numbers count from the end, percentages are rounded to
    whole rows.
    """
    found = PART.fullmatch(f"x{part}") if part else None
    if found is None:
        return range(num_rows)
    return range(num_rows)[slice(*(_bound(found[name], num_rows) for name in ("begin", "end")))]


def _bound(text: str | None, num_rows: int) -> int | None:
    if text is None:
        return None
    return round(int(text[:-1]) / 100 * num_rows) if text.endswith("%") else int(text)


def shown(path: str) -> str:
    """Return a path for a message: relative where that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(path) else path


def require_writable(option: str, file: str | None, reads: Iterable[str | None] = ()) -> None:
    """Refuse a file of results that cannot be written, before the work that it would hold is done.

    Args:
        reads: the files of the inputs, with their parts.

    Raises:
        UserError: its folder does not exist or cannot be written, it is a folder itself, or it would replace
            the inputs or a file of a run or an ablation.
    """
    if file is None:
        return
    folder = os.path.dirname(file) or "."
    fix = "name a file in a folder that exists"
    if not os.path.isdir(folder):
        raise UserError(option, "there is no such folder", folder, fix)
    if os.path.isdir(file):
        raise UserError(option, "is a folder", file, fix)
    if not os.access(file if os.path.exists(file) else folder, os.W_OK):
        raise UserError(option, "may not be written", file, "name another file")
    if any(_is_same(file, split_part(source)[0]) for source in reads if source is not None):
        raise UserError(option, "is the file of the inputs", file, "name another file")
    if os.path.exists(file) and any(_is_of_record(path) for path in Path(file).resolve().parents[:DEPTH]):
        raise UserError(option, "is a file of a run or an ablation", file, "name another file")


def _is_same(file: str, source: str) -> bool:
    return os.path.exists(file) and os.path.exists(source) and os.path.samefile(file, source)


def _is_of_record(folder: Path) -> bool:
    return any(os.path.lexists(folder / name) for name in (IDENTITY, REGISTRATION))


def require_writable_folder(folder: Path, fix: str) -> None:
    """Refuse a folder that this process may not write to, or not make, before the work that it would hold.

    Args:
        fix: what to do about it, as a clause.

    Raises:
        UserError: it names the folder.
    """
    nearest = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if nearest.is_dir() and not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(str(folder), "may not be written", accepted=fix)


def require_file(option: str, file: str) -> None:
    """Refuse an option that names no file; it may name rows of one, as a.csv[:80%].

    Raises:
        UserError: there is no such file.
    """
    path, _ = split_part(file)
    if not os.path.isfile(path):
        raise UserError(option, "there is no such file", path, "name a file that exists")


def inside(folder: Path, name: str, where: str) -> Path:
    """Return the file or folder `name` in `folder`; refuse a name that leads out of the folder.

    Only the name is checked, because in the cache of the Hub's client every file is a link to another folder.

    Args:
        where: the record that holds the name, for the message.

    Raises:
        UserError: the name is absolute or contains "..".
    """
    known = PureWindowsPath(name)  # understands both kinds of slash, and drives
    if known.anchor or ".." in known.parts or not known.parts:
        fix = "do not use it: attnlab writes no such record"
        raise UserError(where, "names a file outside of its own folder", name, fix)
    return folder / name
