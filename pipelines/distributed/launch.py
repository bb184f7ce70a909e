"""Start the ranks of one run on this machine, forward signals to them, and return their exit status.

torchrun and accelerate launch start the same command, but do not return its exit status, which distinguishes
a run that was asked to stop (75) from one that failed. srun starts the ranks itself.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from pipelines.distributed.stop import EXIT_INTERRUPTED, handling
from pipelines.errors import RunFailed

Rank = subprocess.Popen[bytes]
SECONDS_TO_EXIT = 15.0  # for the other ranks, after one has failed
# Ports at which the ranks of a Slurm job connect; below those that systems assign by themselves.
FIRST_PORT, NUM_PORTS = 20_000, 10_000


def is_rank() -> bool:
    """Whether this process was started as one rank of a run (by `launch`, torchrun or accelerate)."""
    return "RANK" in os.environ


def is_first_rank() -> bool:
    """Whether this process prints and writes for the run: rank 0, or the only process."""
    return os.environ.get("RANK", "0") == "0"


def adopt_slurm_rank() -> None:
    """Set the variables that torchrun would set, if this process is one of several tasks of a Slurm step.

    The rank is the task's number. The ranks connect at the first node of the job, at a port computed from the
    job's id. Outside such a step, or under another launcher, nothing happens.

    Raises:
        RunFailed: Slurm does not return the address of that node.
    """
    number = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if number == 1 or is_rank():
        return
    nodes = os.environ["SLURM_STEP_NODELIST"]
    first = _answer("scontrol", "show", "hostnames", nodes).split()[0]
    os.environ |= {
        "RANK": os.environ["SLURM_PROCID"],
        "WORLD_SIZE": str(number),
        "LOCAL_RANK": os.environ["SLURM_LOCALID"],
        "LOCAL_WORLD_SIZE": os.environ["SLURM_STEP_TASKS_PER_NODE"].partition("(")[0],
        "MASTER_ADDR": _answer("sinfo", "--noheader", f"--nodes={first}", "--format=%o").split()[0],
        "MASTER_PORT": str(FIRST_PORT + int(os.environ["SLURM_JOB_ID"]) % NUM_PORTS),
    }


def _answer(*command: str) -> str:
    """Return the output of a Slurm command."""
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode or not answer.stdout.strip():
        what = "Slurm does not return the address of the first rank"
        raise RunFailed(f"{what}: {' '.join(command)}: {answer.stderr.strip()}")
    return answer.stdout


def launch(arguments: Sequence[str], *, processes: int, threads: int) -> int:
    """Run `python -m pipelines <arguments>` as `processes` ranks and return the exit status of the run.

    A signal to this process is forwarded to every rank. If a rank fails, the others are killed, because they
    would wait for it forever. If this process is killed, they end the run: its lock names the first of them.
    """
    ranks: list[Rank] = []
    forwarded: set[int] = set()

    def forward(number: int, _frame: object) -> None:
        forwarded.add(number)
        for rank in ranks:
            if rank.poll() is None:
                rank.send_signal(number)

    with handling(forward):
        _start(ranks, arguments, processes, threads)
        status = _wait(ranks)
    if -status in forwarded:  # it killed a rank that did not handle signals yet
        return EXIT_INTERRUPTED
    return status if status >= 0 else 1  # killed by a signal


def _start(ranks: list[Rank], arguments: Sequence[str], processes: int, threads: int) -> None:
    """Start the ranks; each is appended at once, so that a signal meanwhile is forwarded to it."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(processes)}
    for rank in range(processes):
        environment = os.environ | address | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        environment |= {"LOCAL_WORLD_SIZE": str(processes), "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-m", "pipelines", *arguments]
        # In a session of its own, a rank gets Ctrl-C once, from `forward`, and not a second time directly.
        ranks.append(subprocess.Popen(command, env=environment, start_new_session=True))


def _wait(ranks: Sequence[Rank]) -> int:
    """Wait for all ranks; return the first status that is not 0."""
    status, deadline = 0, None
    while any(rank.poll() is None for rank in ranks):
        failed = [rank.returncode for rank in ranks if rank.returncode]
        if failed and deadline is None:
            status, deadline = failed[0], time.monotonic() + SECONDS_TO_EXIT
        if deadline is not None and time.monotonic() > deadline:
            for rank in ranks:
                rank.kill()
        time.sleep(0.05)
    return status or next((rank.returncode for rank in ranks if rank.returncode), 0)


def free_port() -> int:
    """Return a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
