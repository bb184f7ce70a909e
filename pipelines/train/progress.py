"""Progress messages of a run: bars in a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipelines.terminal import Terminal

SECONDS_BETWEEN_LINES = 10.0


class Reporter:
    """Prints sentences and the progress of phases.

    Args:
        enabled: False prints nothing, as on every rank but the first.
        terminal: where to print; None: stderr.
    """

    def __init__(self, *, enabled: bool = True, terminal: Terminal | None = None) -> None:
        self.enabled = enabled
        self.terminal = terminal or Terminal(errors=True)

    def say(self, sentence: str) -> None:
        """Print a sentence."""
        if self.enabled:
            self.terminal.say(sentence)

    @contextmanager
    def phase(self, name: str, total: int, start: int = 0) -> Iterator[Phase]:
        """Show a bar, or a line every few seconds, over `total` units of which `start` are done."""
        if not self.enabled:
            yield Phase()
        elif self.terminal.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            with Progress(*columns, console=self.terminal, transient=True) as bars:
                yield _Bar(bars, name, total, start)
        else:
            yield _Lines(self.terminal, name, total, start)


class Phase:
    """Progress of one phase; this base class shows nothing."""

    def advance(self, units: int = 1, note: str = "") -> None:
        """Count `units` more as done; `note` is shown beside the count, such as the loss."""


class _Bar(Phase):
    def __init__(self, bars: Progress, name: str, total: int, start: int) -> None:
        self.bars = bars
        self.started, self.done = time.monotonic(), 0
        self.task = bars.add_task(name, total=total, completed=start, rate="", note="")

    def advance(self, units: int = 1, note: str = "") -> None:
        self.done += units
        rate = self.done / max(1e-9, time.monotonic() - self.started)
        self.bars.update(self.task, advance=units, rate=f"{rate:.1f}/s", note=note)


class _Lines(Phase):
    def __init__(self, terminal: Terminal, name: str, total: int, start: int) -> None:
        self.terminal, self.name, self.total = terminal, name, total
        self.start = self.done = start
        self.started = self.printed = time.monotonic()

    def advance(self, units: int = 1, note: str = "") -> None:
        self.done += units
        now = time.monotonic()
        if now - self.printed < SECONDS_BETWEEN_LINES:
            return
        self.printed = now
        rate = (self.done - self.start) / (now - self.started)
        left = (self.total - self.done) / max(rate, 1e-9)
        line = f"{self.name} {self.done}/{self.total}  {rate:.1f}/s  {left:.0f} s left  {note}"
        self.terminal.say(line)
