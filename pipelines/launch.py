"""One run on several processes of this machine: start the ranks, pass signals on, keep their exit status.

torchrun and accelerate launch start the same command; this exists because a run that was asked to stop
must be told apart (75) from one that failed, and neither of them lets the exit status through.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from pipelines.interruption import SIGNALS

SECONDS_TO_LEAVE = 15.0  # for the other ranks, after one has failed


def is_rank() -> bool:
    """Whether this process was started as one rank of a run (by us, torchrun or accelerate)."""
    return "RANK" in os.environ


def is_first_rank() -> bool:
    """Whether this process speaks and writes for the run: rank 0, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def launch(arguments: Sequence[str], *, processes: int, threads: int) -> int:
    """Run `python -m pipelines <arguments>` as `processes` ranks; the exit status of the run.

    A signal to this process reaches every rank. When a rank fails, the others are ended: they would
    wait for it for ever.
    """
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(processes)}
    ranks = []
    for rank in range(processes):
        environment = os.environ | address | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        environment |= {"LOCAL_WORLD_SIZE": str(processes), "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-m", "pipelines", *arguments]
        # A session of its own: Ctrl-C reaches a rank once, through us, and not a second time directly.
        ranks.append(subprocess.Popen(command, env=environment, start_new_session=True))

    def pass_on(number: int, _frame: object) -> None:
        for rank in ranks:
            if rank.poll() is None:
                rank.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in SIGNALS}
    try:
        return _wait(ranks)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(ranks: Sequence[subprocess.Popen]) -> int:
    """Wait for all; the first status that is not 0 is the run's."""
    status, deadline = 0, None
    while any(rank.poll() is None for rank in ranks):
        failed = [rank.returncode for rank in ranks if rank.returncode]
        if failed and deadline is None:
            status, deadline = failed[0], time.monotonic() + SECONDS_TO_LEAVE
        if deadline is not None and time.monotonic() > deadline:
            for rank in ranks:
                rank.kill()
        time.sleep(0.05)
    status = status or next((rank.returncode for rank in ranks if rank.returncode), 0)
    return status if status >= 0 else 1  # killed by a signal


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
