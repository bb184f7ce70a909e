"""One run on several processes of this machine: start the ranks, pass signals on, keep their exit status.

torchrun and accelerate launch start the same command; this exists because a run that was asked to stop
must be told apart (75) from one that failed, and neither of them lets the exit status through. srun starts
the ranks itself.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from pipelines.distributed.stop import EXIT_INTERRUPTED, SIGNALS
from pipelines.errors import RunFailed

SECONDS_TO_LEAVE = 15.0  # for the other ranks, after one has failed
FIRST_PORT, NUM_PORTS = (
    20_000,
    10_000,
)  # where the ranks of a Slurm job meet; below the ports a system hands out


def is_rank() -> bool:
    """Whether this process was started as one rank of a run (by us, torchrun or accelerate)."""
    return "RANK" in os.environ


def is_first_rank() -> bool:
    """Whether this process speaks and writes for the run: rank 0, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def adopt_slurm_rank() -> None:
    """Make a task of a Slurm step of several tasks the rank that it is, as torchrun would.

    srun numbers its tasks; the first node of the job is where they meet, at a port that follows from the
    job. Nothing happens outside such a step, or where a launcher has spoken before.

    Raises:
        RunFailed: Slurm does not say where that node is.
    """
    number = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if number == 1 or is_rank():
        return
    nodes = os.environ["SLURM_STEP_NODELIST"]
    first = _asked("scontrol", "show", "hostnames", nodes).split()[0]
    os.environ |= {
        "RANK": os.environ["SLURM_PROCID"],
        "WORLD_SIZE": str(number),
        "LOCAL_RANK": os.environ["SLURM_LOCALID"],
        "LOCAL_WORLD_SIZE": os.environ["SLURM_STEP_TASKS_PER_NODE"].partition("(")[0],
        "MASTER_ADDR": _asked("sinfo", "--noheader", f"--nodes={first}", "--format=%o").split()[0],
        "MASTER_PORT": str(FIRST_PORT + int(os.environ["SLURM_JOB_ID"]) % NUM_PORTS),
    }


def _asked(*command: str) -> str:
    """What a command of Slurm answers."""
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode or not answer.stdout.strip():
        raise RunFailed(
            f"Slurm does not say where the ranks meet: {' '.join(command)}: {answer.stderr.strip()}"
        )
    return answer.stdout


def launch(arguments: Sequence[str], *, processes: int, threads: int) -> int:
    """Run `python -m pipelines <arguments>` as `processes` ranks; the exit status of the run.

    A signal to this process reaches every rank. When a rank fails, the others are ended: they would
    wait for it for ever.
    """
    ranks: list[subprocess.Popen] = []
    passed_on: set[int] = set()

    def pass_on(number: int, _frame: object) -> None:
        passed_on.add(number)
        for rank in ranks:
            if rank.poll() is None:
                rank.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in SIGNALS}
    try:
        _start(ranks, arguments, processes, threads)
        status = _wait(ranks)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if -status in passed_on:  # a rank that had not begun to listen
        return EXIT_INTERRUPTED
    return status if status >= 0 else 1  # killed by a signal


def _start(ranks: list[subprocess.Popen], arguments: Sequence[str], processes: int, threads: int) -> None:
    """Start the ranks, and add each as soon as it is there."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(processes)}
    for rank in range(processes):
        environment = os.environ | address | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        environment |= {"LOCAL_WORLD_SIZE": str(processes), "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-m", "pipelines", *arguments]
        # A session of its own: Ctrl-C reaches a rank once, through us, and not a second time directly.
        ranks.append(subprocess.Popen(command, env=environment, start_new_session=True))


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
    return status or next((rank.returncode for rank in ranks if rank.returncode), 0)


def free_port() -> int:
    """A port of this machine at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
