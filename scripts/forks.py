"""Run a command of attnlab in a fork of a process that has the imports done."""

from __future__ import annotations

import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

MOST_SECONDS = 600  # on a busy machine
MOST_CPU_SECONDS = 60


def run(command: Sequence[str], before: Callable[[], object] = lambda: None) -> tuple[str, str]:
    """Run one command in a fork; return how it ended ("0", "2", "traceback") and what it printed."""
    with tempfile.TemporaryFile() as printed:
        child = os.fork()
        if child == 0:
            os._exit(_in_child(command, before, printed.fileno()))
        status = _ended(child)
        printed.seek(0)
        text = printed.read().decode(errors="replace")
    # The last net of the command line: one sentence, which says that it is a fault.
    is_fault = status == "traceback" or "is a fault of attnlab" in text
    return ("traceback" if is_fault else status), text


def _in_child(command: Sequence[str], before: Callable[[], object], printed: int) -> int:
    from pipelines.cli.main import main

    for descriptor in (1, 2):
        os.dup2(printed, descriptor)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(n), "w", errors="replace") for n in (1, 2))
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_SECONDS, MOST_CPU_SECONDS))
        before()
        status = main(list(command))
    except SystemExit as error:  # argparse
        status = error.code if isinstance(error.code, int) else 255
    except BaseException as error:  # every exception that reaches here is a traceback for a user
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        status = 255
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def _ended(child: int) -> str:
    deadline = time.monotonic() + MOST_SECONDS
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            return "traceback" if code < 0 or code == 255 else str(code)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "traceback"
