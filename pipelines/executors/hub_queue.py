"""The jobs of an ablation at the Hub, asked for in a thread, so that a slow answer does not delay a stop."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pipelines.config.ablation import HfJobsConfig
from pipelines.distributed.stop import StopRequest
from pipelines.errors import RunFailed
from pipelines.hub.messages import JobsAnswer, JobsRequest, JobState
from pipelines.hub.worker import ask
from pipelines.storage import atomic

FOLDER = "queue"  # in the ablation's folder: what failed jobs have printed
Result = TypeVar("Result")


@dataclass
class HubQueue:
    """The jobs of one ablation.

    Args:
        address: the ablation's folder in the jobs and here, or its storage URL.
        folder: of the ablation on this machine.
        namespace: who pays.
        command: what a job runs; the folder and the name of the run follow.
    """

    settings: HfJobsConfig
    address: str
    folder: Path
    namespace: str
    command: list[str]
    known: dict[str, str] = field(default_factory=dict)  # job of each run that this process saw alive

    @property
    def place(self) -> str:
        """What messages name."""
        return self.settings.bucket or self.address

    @property
    def label(self) -> str:
        """What the jobs of this ablation have in common, on any machine."""
        return hashlib.sha256(f"{self.settings.bucket}:{self.address}".encode()).hexdigest()[:16]

    def jobs(self, start: Iterable[str], stop: StopRequest) -> JobsAnswer:
        """Start a job for each run of `start` that has none, and return the newest job of every run.

        Raises:
            UserError: the Hub refuses the jobs.
        """
        assert self.settings.image is not None, "checked at the start"
        none: JobsAnswer = {"jobs": {}, "unavailable": f"stopped by {stop.signal_name}"}
        request: JobsRequest = {
            "repo": self.place,
            "bucket": self.settings.bucket,
            "namespace": self.namespace,
            "ablation": self.label,
            "known": self.known,
            "start": list(start),
            "image": self.settings.image,
            "command": self.command,
            "address": self.address if "://" in self.address else Path(self.address),
            "mount": Path(self.settings.mount),
            "env": self.settings.env,
            "secrets": list(self.settings.secrets),
            "flavor": self.settings.flavor,
            "minutes": self.settings.minutes,
        }
        try:
            answer = until_stopped(lambda: ask("jobs", request), stop)
        except RunFailed as error:
            return {"jobs": {}, "unavailable": str(error)}
        return answer or none

    def withdraw(self) -> int:
        """Cancel the jobs that have not begun, and return their number; running ones stop by themselves.

        Raises:
            RunFailed: the Hub cannot be reached.
        """
        return ask(
            "withdraw_jobs",
            {"repo": self.place, "namespace": self.namespace, "ablation": self.label},
        )["withdrawn"]

    def last_words(self, job: JobState) -> str:
        """Store what a job has printed, and return a clause on how it ended and where that is."""
        secrets = list(self.settings.secrets)
        text = ask(
            "job_log",
            {"repo": self.place, "namespace": self.namespace, "job": job["id"], "secrets": secrets},
        )["text"]
        path = self.folder / FOLDER / f"{job['id']}.txt"
        path.parent.mkdir(exist_ok=True)
        atomic.write_bytes(path, f"{text}\n".encode())
        message = f", {job['message']}" if job["message"] else ""
        return f"the Hub says {job['stage']}{message} of job {job['id']}, see {path}"


def until_stopped(call: Callable[[], Result], stop: StopRequest) -> Result | None:
    """Return `call()`; None if a stop is requested before it returns."""
    answers: queue.SimpleQueue[tuple[Result | None, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            answers.put((call(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=work, daemon=True, name="hub").start()
    while not stop.requested:
        with suppress(queue.Empty):
            answer, error = answers.get(timeout=0.2)
            if error is not None:
                raise error
            return answer
    return None
