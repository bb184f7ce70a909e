"""Wait for what another process does, however fast or slow the machine is."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

SECONDS = 280  # after which a test gives up; no test needs it on a machine that works


def wait_for(happened: Callable[[], object], process: subprocess.Popen) -> None:
    """Wait until `happened` returns something true; fail if `process` ends before."""
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def children(process: subprocess.Popen) -> list[str]:
    """Ids of the processes that a process has started and that still run."""
    lists = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [child for path in lists for child in path.read_text().split()]
