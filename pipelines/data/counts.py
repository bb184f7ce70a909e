"""The parts of the data that were cut or skipped before the model, as text."""

from __future__ import annotations

from collections.abc import Mapping

# Counts that mean no loss: of everything, and of inputs that were read in several parts.
WITHOUT_LOSS = frozenset({"examples", "words", "examples_in_windows", "examples_in_blocks"})


def describe_cuts(counts: Mapping[str, int]) -> str:
    """Return what was cut or left out before the model, such as "; 3 sources cut"; "" if nothing was."""
    found = [
        f"{count:,} {what.replace('_', ' ')}"
        for what, count in counts.items()
        if count and what not in WITHOUT_LOSS
    ]
    return f"; {', '.join(found)}" if found else ""
