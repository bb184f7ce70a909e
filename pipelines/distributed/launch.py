"""Start the ranks of one run on this machine, forward signals to them, and return their exit status.

torchrun and accelerate launch start the same command, but do not return its exit status, which distinguishes
a run that was asked to stop (75) from one that failed. srun starts the ranks itself.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import IO

from pipelines.distributed.stop import EXIT_BUSY, EXIT_INTERRUPTED, handling
from pipelines.errors import RunFailed
from pipelines.registry.child import python_module
from pipelines.shown import printable

Rank = subprocess.Popen[bytes]
SECONDS_TO_EXIT = 15.0  # for the other ranks, after one has failed
# Ports at which the ranks of a Slurm job connect; below those that systems assign by themselves.
FIRST_PORT, NUM_PORTS = 20_000, 10_000
STATED = (2, EXIT_INTERRUPTED, EXIT_BUSY)  # the statuses of a rank that said why it ends


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
    """Run `attnlab <arguments>` as `processes` ranks and return the exit status of the run.

    A signal to this process is forwarded to every rank. If a rank fails, the others are killed, because they
    would wait for it forever. If this process is killed, they end the run: its lock names the first of them.
    Rank 0 prints as it goes. Of another rank, its errors are printed where its reason decides.
    """
    ranks: list[Rank] = []
    errors: list[IO[bytes]] = []
    port = free_port()
    forwarded: set[int] = set()

    def forward(number: int, _frame: object) -> None:
        forwarded.add(number)
        for rank in ranks:
            if rank.poll() is None:
                rank.send_signal(number)

    with ExitStack() as files:
        with handling(forward):
            for rank in range(processes):
                errors.append(files.enter_context(tempfile.TemporaryFile()))
                ranks.append(_start(rank, arguments, processes, threads, port, errors[rank]))
            statuses = _wait(ranks)
        decides = _deciding(statuses)
        status = statuses[decides]
        if -status in forwarded:  # it killed a rank that did not handle signals yet
            return EXIT_INTERRUPTED
        if decides and status:
            _print_reason(decides, status, errors[decides])
    return status if status >= 0 else 1  # killed by a signal


def _start(
    rank: int, arguments: Sequence[str], processes: int, threads: int, port: int, errors: IO[bytes]
) -> Rank:
    """Start one rank; the errors of all but the first go into the file `errors`."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    environment = os.environ | address | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    environment |= {"LOCAL_WORLD_SIZE": str(processes), "OMP_NUM_THREADS": str(threads)}
    command = [*python_module("pipelines"), *arguments]
    # In a session of its own, a rank gets Ctrl-C once, from `forward`, and not a second time directly.
    return subprocess.Popen(command, env=environment, start_new_session=True, stderr=errors if rank else None)


def _wait(ranks: Sequence[Rank]) -> list[int]:
    """Wait for all ranks; return the status of each, 0 for those that were killed because another failed."""
    deadline, killed = None, set[Rank]()
    while None in [rank.poll() for rank in ranks]:  # each is looked at: the first may wait for a dead one
        if deadline is None and any(rank.returncode for rank in ranks):
            deadline = time.monotonic() + SECONDS_TO_EXIT
        if deadline is not None and time.monotonic() > deadline:
            for rank in (rank for rank in ranks if rank.poll() is None):
                killed.add(rank)
                rank.kill()
        time.sleep(0.05)
    return [0 if rank in killed else rank.returncode for rank in ranks]


def _deciding(statuses: Sequence[int]) -> int:
    """Return the rank whose status is that of the run.

    A rank that ends with a reason of its own takes the others with it: they lose the connection and fail in
    turn. So a stated reason goes before a failure, then the first rank before the others.
    """
    stated = [rank for rank, status in enumerate(statuses) if status in STATED]
    failed = [rank for rank, status in enumerate(statuses) if status]
    return next(iter(stated or failed), 0)


def _print_reason(rank: int, status: int, errors: IO[bytes]) -> None:
    errors.seek(0)
    text = errors.read().decode(errors="replace")
    if status < 0:
        text += f"process {rank} was killed by {signal.Signals(-status).name}\n"
    print(printable(text), end="", file=sys.stderr, flush=True)


def free_port() -> int:
    """Return a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
