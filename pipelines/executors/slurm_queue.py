"""The Slurm job of each run, stored in the ablation's folder, and the state of these jobs in the queue."""

from __future__ import annotations

import getpass
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pipelines.storage import atomic, reading
from pipelines.storage.names import JOBS

ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"}
    | {"PREEMPTED", "REVOKED", "TIMEOUT"}
)
FORGET_JOBS = "delete it when squeue shows no job of this ablation"
SECONDS_TO_ANSWER = 60
MOST_IDS = 500  # in one command line


def jobs_of(ablation: Path) -> dict[str, str]:
    """Return the last job of each run, by the name of its folder; empty if none was submitted."""
    return reading.json_object_if_there(ablation / JOBS, FORGET_JOBS, dict[str, str]) or {}


def remember_jobs(ablation: Path, new: Mapping[str, str]) -> None:
    """Store jobs that were just submitted; the caller holds the lock of the queue."""
    atomic.write_json(ablation / JOBS, jobs_of(ablation) | dict(new))


def states() -> dict[str, str] | None:
    """Return the state of every job of this user by its id; None if Slurm does not answer.

    Slurm keeps ended jobs in this list for some minutes.
    """
    command = [
        "squeue",
        "--noheader",
        "--array",
        "--states=all",
        "--format=%i|%T",
        f"--user={getpass.getuser()}",
    ]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER)
    except subprocess.TimeoutExpired:
        return None
    if answer.returncode:
        return None
    return dict(line.strip().split("|", 1) for line in answer.stdout.splitlines() if "|" in line)


def queued(ablation: Path) -> frozenset[str]:
    """Return the names of the runs whose job waits or runs; if Slurm does not answer, of all with a job."""
    jobs = jobs_of(ablation)
    known = states() if jobs and shutil.which("squeue") else None
    if known is None:
        return frozenset(jobs)
    return frozenset(name for name, job in jobs.items() if is_alive(known.get(job)))


def is_alive(state: str | None) -> bool:
    """Whether a job in this state waits or runs; None is the state of a job that Slurm no longer lists."""
    return state is not None and state not in ENDED


def is_running(job: str) -> bool:
    """Whether Slurm lets this job continue: it is neither cancelled nor at its time limit."""
    command = ["squeue", "--noheader", "--format=%T", f"--jobs={job}"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER)
    return answer.returncode == 0 and answer.stdout.strip() == "RUNNING"


def withdraw(ablation: Path) -> int:
    """Remove the waiting jobs from Slurm's queue and return their number; running ones stop by themselves."""
    known = states() if shutil.which("squeue") else None
    waiting = [job for job in jobs_of(ablation).values() if (known or {}).get(job) == "PENDING"]
    for start in range(0, len(waiting), MOST_IDS):
        some = waiting[start : start + MOST_IDS]
        subprocess.run(["scancel", "--state=PENDING", *some], timeout=SECONDS_TO_ANSWER, check=False)
    return len(waiting)
