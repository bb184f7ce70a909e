"""Asking a run to stop: signals become a flag that the loop reads at a safe point."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL: try again


class StopRequest:
    """Whether a signal asked this process to stop, and which."""

    def __init__(self) -> None:
        self.signal_name: str | None = None

    @property
    def requested(self) -> bool:
        return self.signal_name is not None

    def _receive(self, number: int, _frame: object) -> None:
        if self.requested:  # asked twice: leave at once; the last sealed checkpoint stands
            os._exit(EXIT_INTERRUPTED)
        self.signal_name = signal.Signals(number).name


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Turn the stop signals into a `StopRequest` for the length of the block (main thread only)."""
    request = StopRequest()
    before = {number: signal.signal(number, request._receive) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
