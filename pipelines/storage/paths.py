"""From a local file to its bytes or its text, whatever its name claims it is."""

from __future__ import annotations

import os
import re
from pathlib import Path, PureWindowsPath

from pipelines.errors import UserError

PART = re.compile(r"(?P<path>.+?)\[(?P<begin>-?\d+%?)?:(?P<end>-?\d+%?)?\]")


def split_part(text: str) -> tuple[str, str]:
    """A file and which of its rows are meant: ("a.csv", "[:80%]") of "a.csv[:80%]", ("a.csv", "") of that."""
    found = PART.fullmatch(text)
    if found is None or Path(text).exists():
        return text, ""
    return found["path"], text[len(found["path"]) :]


def rows_of_part(part: str, num_rows: int) -> range:
    """The rows of a part such as "[100:]" or "[:80%]", as `datasets` counts them.

    From 0, without the last one; below 0 from the end; shares are rounded to whole rows.
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
    """A path as a user would type it: relative where that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(path) else path


def inside(folder: Path, name: str, where: str) -> Path:
    """The file or folder that a record at `where` names in `folder`; a record never reaches out of it.

    The name alone decides: in the cache of the Hub's client every file is a link to somewhere else.

    Raises:
        UserError: the name is absolute, or climbs out by "..".
    """
    known = PureWindowsPath(name)  # which takes both slashes, and a drive, for what they are
    if known.anchor or ".." in known.parts or not known.parts:
        fix = "do not use it: attnlab writes no such record"
        raise UserError(where, "names a file outside of its own folder", name, fix)
    return folder / name
