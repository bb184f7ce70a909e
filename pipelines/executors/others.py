"""Tell that another command works on the same ablation, so that nobody wonders why a run is waited for."""

from __future__ import annotations

from collections.abc import Callable

from pipelines.ablation.cell import Cell
from pipelines.storage.lock import holder, is_held
from pipelines.storage.names import LOCK


class OtherCommands:
    """Says once who works on a run that this command has not started.

    Args:
        say: called with the sentence.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self.is_told = say, False

    def tell(self, cell: Cell) -> None:
        """Say who holds the lock of a run."""
        if not self.is_told:
            self.is_told = True
            lock = cell.folder / LOCK
            who = holder(lock) if is_held(lock) else "on another machine, by its lease in the store"
            self.say(
                f"another command works on {cell.label} ({who}); its runs are waited for, not made twice"
            )
