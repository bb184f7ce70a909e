"""The words of a verdict that other modules ask for; needs no library."""

from __future__ import annotations

USUALLY = "usually "  # before better and worse: in seeds and examples of the kinds that were seen
DIFFERENT = ("better", "worse", f"{USUALLY}better", f"{USUALLY}worse")
CLAIMS = (*DIFFERENT, "equivalent", "non-inferior")
