"""HF Jobs in the double of the Hub: jobs that a test runs, in threads or as real processes."""

from __future__ import annotations

import itertools
import math
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.pipelines.hub.connection import Answer, Request
from tests.pipelines.hub.double import Hub

PRICES = {"cpu-basic": 0.0002, "a10g-small": 0.0167, "b300x2": 0.3}  # dollars a minute; one of our own
BUCKETS = ("lab/runs",)


@dataclass
class Job:
    """One job, as it was asked for, and how far it is."""

    number: int
    namespace: str
    asked: dict[str, Any]
    stage: str = "SCHEDULING"
    message: str | None = None
    log: list[str] = field(default_factory=list)
    process: subprocess.Popen | None = None

    @property
    def run(self) -> str:
        return self.asked["labels"]["run"]

    @property
    def id(self) -> str:
        return f"{self.number:024x}"

    def shown(self) -> dict[str, Any]:
        """Return it as the client expects it."""
        kept = ("command", "arguments", "environment", "flavor", "labels", "volumes", "dockerImage")
        return {
            **{name: self.asked.get(name) for name in kept},
            "id": self.id,
            "createdAt": f"2026-01-01T00:{self.number // 60:02}:{self.number % 60:02}.000Z",
            "owner": {"id": "1", "name": self.namespace, "type": "org"},
            "status": {"stage": self.stage, "message": self.message},
        }


Work = Callable[[Job], tuple[str, str | None]]  # runs a job; its last stage, with the Hub's message


class JobsHub(Hub):
    """A Hub that runs jobs: at most `at_once` wait or run at a time, and more are refused with 429."""

    def __init__(self, work: Work, at_once: float = math.inf) -> None:
        super().__init__()
        self.work, self.at_once = work, at_once
        self.jobs: list[Job] = []
        self.numbers = itertools.count(1)

    def __exit__(self, *details: object) -> None:
        for job in self.jobs:
            if job.process is not None and job.process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(job.process.pid, signal.SIGKILL)
        super().__exit__(*details)

    def of(self, run: str) -> list[Job]:
        """Return the jobs of a run, the oldest first."""
        return [job for job in self.jobs if job.run == run]

    def lose(self, job: Job) -> None:
        """Forget a job, and end it."""
        self.jobs.remove(job)

    def route(self, method: str, path: str) -> tuple[str, tuple[str | None, ...]]:
        for name, expected, pattern in ROUTES:
            if method == expected and (found := pattern.fullmatch(path.partition("?")[0])):
                return name, found.groups()
        return super().route(method, path)

    def _perform(self, job: Job) -> None:
        job.stage = "RUNNING"
        stage, message = self.work(job)
        with self.lock:
            if job.stage == "RUNNING":
                job.stage, job.message = stage, message

    # ---- endpoints
    def hardware(self, request: Request) -> None:
        raise Answer(200, [_flavor(name, dollars) for name, dollars in PRICES.items()])

    def bucket(self, request: Request, name: str) -> None:
        self.who(request)
        if name not in BUCKETS:
            missing = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Bucket not found"}
            raise Answer(404, {"error": "Bucket not found"}, missing)
        known = {"id": name, "private": True, "createdAt": "2026-01-01T00:00:00.000Z", "size": 0}
        raise Answer(200, {**known, "totalFiles": 0})

    def run_job(self, request: Request, namespace: str) -> None:
        self.require_writer(request, namespace)
        asked = request.json()
        if asked["flavor"] not in PRICES:
            raise Answer(400, {"error": f"no such flavor: {asked['flavor']}"})
        if sum(job.stage in ("SCHEDULING", "RUNNING") for job in self.jobs) >= self.at_once:
            raise Answer(429, {"error": "too many jobs"})
        job = Job(next(self.numbers), namespace, asked)
        self.jobs.append(job)
        threading.Thread(target=self._perform, args=(job,), daemon=True).start()
        raise Answer(200, job.shown())

    def list_jobs(self, request: Request, namespace: str) -> None:
        self.who(request)
        query = urllib.parse.parse_qs(request.path.partition("?")[2])
        labels = [tuple(label.split("=", 1)) for label in query.get("label", [])]
        found = [job for job in self.jobs if job.namespace == namespace]
        shown = [job.shown() for job in found if set(labels) <= set(job.asked["labels"].items())]
        raise Answer(200, shown)

    def _job(self, identity: str) -> Job:
        for job in self.jobs:
            if job.id == identity:
                return job
        raise Answer(404, {"error": "Job not found"})

    def inspect_job(self, request: Request, namespace: str, identity: str) -> None:
        self.who(request)
        raise Answer(200, self._job(identity).shown())

    def cancel_job(self, request: Request, namespace: str, identity: str) -> None:
        self.require_writer(request, namespace)
        self._job(identity).stage = "CANCELED"
        raise Answer(200, {})

    def job_log(self, request: Request, namespace: str, identity: str) -> None:
        self.who(request)
        events = [
            f'data: {{"data": "{line}", "timestamp": "2026-01-01T00:00:00.000Z"}}\n\n'
            for line in self._job(identity).log
        ]
        raise Answer(200, "".join(events).encode(), {"Content-Type": "text/event-stream"})


def _flavor(name: str, dollars: float) -> dict[str, Any]:
    size = {"name": name, "prettyName": name, "cpu": "2 vCPU", "ram": "16 GB", "accelerator": None}
    return {**size, "unitCostMicroUSD": round(dollars * 1e6), "unitCostUSD": dollars, "unitLabel": "minute"}


def in_processes(environment: Callable[[Job], dict[str, str]]) -> Work:
    """Return work that starts the command of a job as a process, with our own `attnlab`, and ends it in time.

    Args:
        environment: what the image of a job would set.
    """

    def work(job: Job) -> tuple[str, str | None]:
        programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        given = {**environment(job), **job.asked["environment"], **job.asked.get("secrets", {})}
        job.process = subprocess.Popen(
            job.asked["command"],
            env=os.environ | {"PATH": programs} | given,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )
        try:
            job.log += job.process.communicate(timeout=job.asked["timeoutSeconds"])[0].splitlines()
        except subprocess.TimeoutExpired:
            os.killpg(job.process.pid, signal.SIGKILL)
            return "ERROR", "Job timeout"
        status = job.process.returncode
        return ("COMPLETED", None) if status == 0 else ("ERROR", f"Job failed with exit code: {status}")

    return work


ROUTES = tuple(
    (name, method, re.compile(pattern))
    for name, method, pattern in (
        ("hardware", "GET", r"/api/jobs/hardware"),
        ("bucket", "GET", r"/api/buckets/([^/]+/[^/]+)"),
        ("run_job", "POST", r"/api/jobs/([^/]+)"),
        ("list_jobs", "GET", r"/api/jobs/([^/]+)"),
        ("inspect_job", "GET", r"/api/jobs/([^/]+)/(\w+)"),
        ("cancel_job", "POST", r"/api/jobs/([^/]+)/(\w+)/cancel"),
        ("job_log", "GET", r"/api/jobs/([^/]+)/(\w+)/logs"),
    )
)
