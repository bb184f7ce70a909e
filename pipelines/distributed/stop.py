"""Ask a run to stop: signals set a flag that the training loop reads at a safe point."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP)
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL of sysexits.h: try again
EXIT_BUSY = 76  # another process works on the run


class StopRequest:
    """Whether a signal has asked this process to stop, and the first one that did."""

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._received: set[int] = set()

    @property
    def requested(self) -> bool:
        return self.signal_name is not None

    def _receive(self, number: int, _frame: object) -> None:
        # The same signal twice: exit at once; the last checkpoint is complete. Slurm sends two different
        # ones, a warning (USR2) and, at the limit, TERM: the time between is for saving a checkpoint.
        # A closed terminal may send HUP twice, from the shell and from the kernel.
        if number == signal.SIGHUP:
            leave_terminal()
        elif number in self._received:
            os._exit(EXIT_INTERRUPTED)
        self._received.add(number)
        self.signal_name = self.signal_name or signal.Signals(number).name


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Exit with status 75 on a stop signal during the block, in which there is nothing to save.

    It covers the start and the end of a process; during training, `listening` replaces it. The imports alone
    take seconds. Without this, a signal would kill the process, and a scheduler would count the run as
    failed. It is not for a submitit job, whose own handler queues the job again.
    """
    with handling(_leave_at_once):
        yield


def _leave_at_once(_number: int, _frame: object) -> None:
    if os.environ.get("RANK", "0") == "0":
        with suppress(OSError):  # the terminal may be gone
            os.write(2, b"stopped; to resume, start the same command again\n")
    os._exit(EXIT_INTERRUPTED)


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Turn stop signals into a `StopRequest` during the block (main thread only)."""
    request = StopRequest()
    with handling(request._receive):
        yield request


@contextmanager
def handling(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Call `handler` for every stop signal during the block; a hangup that `nohup` ignores stays ignored."""
    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
    before = {number: signal.signal(number, handler) for number in SIGNALS if number not in ignored}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def leave_terminal() -> None:
    """Send output for the terminal to nowhere: after a hangup, writing to it is an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(descriptor).st_mode):
                os.dup2(nowhere, descriptor)
    os.close(nowhere)
