"""What was cut or skipped on the way into the model, as a sentence."""

from __future__ import annotations

from collections.abc import Mapping

# Counts that tell of no loss: of all there is, and of what was read in several pieces.
WITHOUT_LOSS = frozenset({"examples", "words", "examples_in_windows", "examples_in_blocks"})


def losses_said(counts: Mapping[str, int]) -> str:
    """What was cut or left out on the way into the model, such as "; 3 sources cut"; "" where nothing was."""
    found = [
        f"{count:,} {what.replace('_', ' ')}"
        for what, count in counts.items()
        if count and what not in WITHOUT_LOSS
    ]
    return f"; {', '.join(found)}" if found else ""
