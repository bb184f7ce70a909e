"""Asking a run to stop: signals become a flag that the loop reads at a safe point."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL: try again
EXIT_BUSY = 76  # another process works on the run


class StopRequest:
    """Whether a signal asked this process to stop, and which."""

    def __init__(self) -> None:
        self.signal_name: str | None = None  # the first that came
        self._received: set[int] = set()

    @property
    def requested(self) -> bool:
        return self.signal_name is not None

    def _receive(self, number: int, _frame: object) -> None:
        # Asked twice: leave at once; the last sealed checkpoint stands. Slurm's warning (USR2) and, at the
        # limit, TERM are no such haste: what is left of the time is for the checkpoint.
        if number in self._received:
            os._exit(EXIT_INTERRUPTED)
        self._received.add(number)
        self.signal_name = self.signal_name or signal.Signals(number).name


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Let a stop signal end the process with 75 while it starts or tidies up: there is nothing to save.

    `listening` takes over for as long as there is. Imports alone take seconds, in which a signal would end
    the process as it ends any program, and a scheduler would call the run failed. Not for a job of submitit,
    whose own handler queues it again.
    """
    before = {number: signal.signal(number, _leave_at_once) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_at_once(_number: int, _frame: object) -> None:
    if os.environ.get("RANK", "0") == "0":
        os.write(2, b"stopped; to go on, start the same command again\n")
    os._exit(EXIT_INTERRUPTED)


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
