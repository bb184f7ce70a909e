"""Run one command in a fork of this process, which has the imports done, and see how it ends."""

from __future__ import annotations

import io
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

MOST_SECONDS = 600  # on a busy machine
MOST_CPU_SECONDS = 300
FAULT = 255  # the exit status of an exception that reached the top
Command = Sequence[str] | Callable[[], object]  # of the command line, or of Python


class Ended(NamedTuple):
    """How a command ended, and what it printed."""

    status: int | str  # "traceback" or "hangs" instead of an exit status
    printed: str
    said: str  # on standard error


def run(command: Command, before: Callable[[], object] = lambda: None) -> Ended:
    """Run a command in a fork.

    Args:
        before: called in the fork first.
    """
    with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            os._exit(_in_child(command, before, (printed.fileno(), said.fileno())))
        status = _status_of(child)
        texts = []
        for file in (printed, said):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    # The last net of the command line: one sentence, which says that it is a fault.
    is_fault = "is a fault of attnlab" in texts[1] or "Traceback (most recent call last)" in texts[1]
    return Ended("traceback" if is_fault else status, *texts)


def _in_child(command: Command, before: Callable[[], object], outputs: tuple[int, int]) -> int:
    for descriptor, target in zip((1, 2), outputs):
        os.dup2(target, descriptor)
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(n, "w", closefd=False)) for n in (1, 2))
    os.setpgid(0, 0)  # what it starts is ended with it
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_SECONDS, MOST_CPU_SECONDS))
        before()
        status = _run(command)
    except SystemExit as error:
        status = int(error.code or 0)
    except BaseException as error:  # every exception that reaches here is a traceback for a user
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        status = FAULT
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def _run(command: Command) -> int:
    from pipelines.cli.main import main
    from pipelines.errors import RunFailed, UserError

    if not callable(command):
        return main(list(command))
    try:
        command()
    except (UserError, RunFailed) as error:  # what the functions for Python raise
        print(error, file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    return 0


def _status_of(child: int) -> int | str:
    deadline = time.monotonic() + MOST_SECONDS
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            return "traceback" if code < 0 or code == FAULT else code
        time.sleep(0.003)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hangs"
