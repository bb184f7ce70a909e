"""The sentence for an error that no part of attnlab has turned into one."""

from __future__ import annotations

import errno
import json
import traceback
from pathlib import Path
from types import TracebackType

CAUGHT = (OSError, UnicodeError, RecursionError, json.JSONDecodeError)
# Errors of a path that attnlab was given, or of the disk: the text of the system says what to do.
OF_THE_SYSTEM = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG, errno.ENOTDIR}
    | {errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.EIO, errno.ESTALE, errno.EFBIG}
)
OURS = ("pipelines", "custom_attention")


def sentence(error: BaseException) -> str:
    """Return one sentence: the file, what happened to it, and whether it is a fault to report."""
    file = _file_of(error)
    where = f"{file}: " if file else ""
    if isinstance(error, OSError) and error.errno in OF_THE_SYSTEM:
        return f"{where}{(error.strerror or str(error)).lower()}."
    text = " ".join(str(error).split()) or "no message"
    place = _place_of(error.__traceback__)
    return (
        f"{where}{type(error).__name__}: {text}; this is a fault of attnlab, please report it with {place}."
    )


def _file_of(error: BaseException) -> str | None:
    """Return the file that an error names; else the innermost path that our code was working on."""
    if isinstance(error, OSError) and error.filename:
        return str(error.filename)
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        paths = [value for value in frame.f_locals.values() if isinstance(value, Path)]
        if frame.f_globals.get("__name__", "").partition(".")[0] in OURS and paths:
            return str(paths[0])
    return None


def _place_of(trace: TracebackType | None) -> str:
    """Return the innermost place of our code, as `module, line 12`."""
    places = [(frame.f_globals.get("__name__", ""), line) for frame, line in traceback.walk_tb(trace)]
    ours = [place for place in places if place[0].partition(".")[0] in OURS]
    return f"the command and {ours[-1][0]}, line {ours[-1][1]}" if ours else "the command"
