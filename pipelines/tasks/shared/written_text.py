"""A text that another program wrote as its prediction."""

from __future__ import annotations

from typing import Any


def text_of(written: Any) -> str:
    """Return the text itself, or that of a mapping with "text"; nothing is the empty text.

    Raises:
        LookupError: it is no text; the message is a clause.
    """
    found = written.get("text") if isinstance(written, dict) else written
    if found is None:
        return ""
    if not isinstance(found, str):
        raise LookupError(f"is no text: {found!r}")
    return found
