"""Text for a reader: what a terminal would obey instead of show is written as an escape."""

from __future__ import annotations

import re

# Control characters, line separators, and the marks that turn the direction of a line.
OBEYED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    r"""Return a text with each such character as Python writes it: "\t", "\x1b"."""
    return OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
