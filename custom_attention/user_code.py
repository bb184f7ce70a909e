"""Tell in one line what the code of a user's own module has raised."""

from __future__ import annotations

import traceback
from pathlib import Path

MOST_CHARACTERS = 300  # of a message in a message
PACKAGE = Path(__file__).parent


def told(error: BaseException) -> str:
    """Return an error as type, message and the innermost line outside of this package and of libraries.

    The message is quoted: it may hold values of data, which are cut out of what is published.
    """
    text = " ".join(str(error).split())[:MOST_CHARACTERS].rstrip(".").replace("”", '"')
    places = [
        (Path(frame.f_code.co_filename), line) for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    own = [(file.name, line) for file, line in places if not _is_library(file)]
    place = f" ({own[-1][0]}, line {own[-1][1]})" if own else ""
    return f"{type(error).__name__}: “{text}”{place}" if text else f"{type(error).__name__}{place}"


def _is_library(file: Path) -> bool:
    return "site-packages" in file.parts or PACKAGE in file.parents or file.name.startswith("<")
