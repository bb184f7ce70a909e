"""Which Slurm job is to run which cell, by the ablation's folder, and what Slurm says of it."""

from __future__ import annotations

import getpass
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pipelines.storage import atomic
from pipelines.storage.atomic import read_json
from pipelines.storage.names import JOBS

ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"}
    | {"PREEMPTED", "REVOKED", "TIMEOUT"}
)
SECONDS_TO_ANSWER = 60
MOST_IDS = 500  # in one command line


def jobs_of(ablation: Path) -> dict[str, str]:
    """The last job that each run was given to; empty where none was."""
    return read_json(ablation / JOBS) or {}


def remember_jobs(ablation: Path, new: Mapping[str, str]) -> None:
    """Add jobs that were just submitted; the caller holds the lock of the queue."""
    atomic.write_json(ablation / JOBS, jobs_of(ablation) | dict(new))


def states() -> dict[str, str] | None:
    """State of every job of this user, by its id, ended ones for some minutes; None: no answer."""
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
    """Names of the runs that a job waits for or works on; where Slurm cannot be asked, those that got one."""
    jobs = jobs_of(ablation)
    known = states() if jobs and shutil.which("squeue") else None
    if known is None:
        return frozenset(jobs)
    return frozenset(name for name, job in jobs.items() if is_alive(known.get(job)))


def is_alive(state: str | None) -> bool:
    """Whether a job in this state waits or works; None is a job that Slurm does not know any more."""
    return state is not None and state not in ENDED


def still_ours(job: str) -> bool:
    """Whether Slurm means this job to go on working: neither cancelled nor at its time limit."""
    command = ["squeue", "--noheader", "--format=%T", f"--jobs={job}"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER)
    return answer.returncode == 0 and answer.stdout.strip() == "RUNNING"


def withdraw(ablation: Path) -> int:
    """Take the jobs that wait out of Slurm's queue; how many. Those at work see that they are cancelled."""
    known = states() if shutil.which("squeue") else None
    waiting = [job for job in jobs_of(ablation).values() if (known or {}).get(job) == "PENDING"]
    for start in range(0, len(waiting), MOST_IDS):
        some = waiting[start : start + MOST_IDS]
        subprocess.run(["scancel", "--state=PENDING", *some], timeout=SECONDS_TO_ANSWER, check=False)
    return len(waiting)
