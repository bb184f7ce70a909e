"""Run cells as HF Jobs, one job per run, on hardware of the Hub; a bucket holds the ablation."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from huggingface_hub import JobHardware

from pipelines.ablation.at_url import at_url, is_at_work
from pipelines.ablation.cell import Cell, OnOutcome, Outcome, outcome_of
from pipelines.config.ablation import HfJobsConfig
from pipelines.distributed.stop import StopRequest
from pipelines.errors import RunFailed, UserError
from pipelines.executors import cancellation, retries
from pipelines.executors.hub_queue import HubQueue
from pipelines.executors.mounted import address_for
from pipelines.executors.others import OtherCommands
from pipelines.hub.client import Patience
from pipelines.hub.jobs import is_alive
from pipelines.hub.messages import JobState
from pipelines.hub.worker import ask
from pipelines.storage.lock import lock
from pipelines.storage.names import FAILURE

ATTEMPTS = (
    4  # of a job of `--prepare` that does not end with status 0; each goes on from the newest checkpoint
)


class HfJobsExecutor:
    """Starts a job for each cell and watches jobs and run folders until all cells have ended.

    The jobs do not need the watcher, but nobody starts one again without it. It can be stopped and started,
    and several can run at once; each cell still runs once.

    Args:
        ablation: the ablation's folder, in the bucket, which is mounted here, unless there is a store.
        say: called with sentences for the user.
        store: storage URL of the run folders, in the place of a bucket.

    Raises:
        UserError: a setting is missing, or the folder is not in the bucket.
    """

    at_a_time = None
    when_stopped = (
        "its jobs go on, and cost what they cost: start the same command again to continue watching, or stop "
        "them with attnlab status DIR --cancel"
    )

    def __init__(
        self, settings: HfJobsConfig, ablation: Path, say: Callable[[str], None], store: str | None = None
    ) -> None:
        needed = {"image": settings.image} | ({} if store else {"bucket": settings.bucket})
        self.ablation, self.remote = ablation.absolute(), at_url(store, ablation)
        self.address = address_for("hf-jobs", ablation, settings.mount, needed, store)
        self.seconds = 60 * settings.minutes - settings.grace_seconds
        if self.seconds <= 0:
            came = f"{settings.grace_seconds} of {60 * settings.minutes} seconds"
            raise UserError("hf_jobs.grace_seconds", "leaves no time before the limit of a job", came)
        self.settings, self.say = settings, say
        self.place = settings.bucket or self.address  # what messages name
        patience = Patience.from_environment().seconds
        self.seconds_between_looks, self.seconds_to_show = patience / 30, patience / 10
        self.submissions, self.others = retries.Submissions(), OtherCommands(say)
        self.ended_at: dict[str, float] = {}  # when a job of a run was first seen to be over
        self.told: dict[str, str | None] = {}  # why the Hub did not do a step when it was last asked

    def run(self, cells: Sequence[Cell], *, stop: StopRequest, on_outcome: OnOutcome) -> None:
        """Start a job for every cell that has none, and report each as it ends."""
        self.hub = self._queue()
        if self.remote is not None:
            self.remote.forget_starts(cells)
        waiting = {cell.folder.name: cell for cell in cells}
        while waiting and not stop.requested and not cancellation.is_cancelled(self.ablation):
            lost: list[Cell] = []
            if (jobs := self._jobs([], stop)) is not None:
                if self.remote is not None:
                    self.remote.fetch_results(waiting.values())
                for name, cell in list(waiting.items()):
                    outcome = self._look(cell, jobs.get(name), lost)
                    if outcome is not None:
                        del waiting[name]
                        self.hub.known.pop(name, None)
                        on_outcome(cell, outcome)
            if lost:
                self._start(lost, stop)
            end = time.monotonic() + self.seconds_between_looks
            while waiting and not stop.requested and time.monotonic() < end:  # react to a stop at once
                time.sleep(min(0.2, self.seconds_between_looks))
        if waiting and not stop.requested:
            self._withdraw()

    def _queue(self) -> HubQueue:
        """Return the queue, after the checks of everything that a job needs."""
        chosen = self.settings
        found = ask(
            "job_preflight",
            {
                "repo": self.place,
                "bucket": chosen.bucket,
                "namespace": chosen.namespace,
                "secrets": list(chosen.secrets),
            },
        )
        self._price_of_flavor(found["dollars_per_hour"])
        return HubQueue(chosen, self.address, self.ablation, found["namespace"], self._in_job())

    def _jobs(self, start: Sequence[str], stop: StopRequest) -> Mapping[str, JobState] | None:
        """Return the job of every run, after starting some; None if the Hub does not answer, said once."""
        answer, step = self.hub.jobs(start, stop), "start" if start else "look"
        reason = answer["unavailable"]
        if reason and not self.told.get(step) and not stop.requested:
            what = "takes no more jobs now" if start else "does not answer"
            again = f"it is asked again every {self.seconds_between_looks:.0f} s"
            self.say(f"the Hub {what} ({reason}); no run is lost, and {again}")
        self.told[step] = reason
        return None if reason and not start else answer["jobs"]

    def _look(self, cell: Cell, job: JobState | None, lost: list[Cell]) -> Outcome | None:
        """Return the outcome of a cell, None while it has none; add it to `lost` if it has no live job."""
        name, outcome = cell.folder.name, outcome_of(cell)
        if outcome.status in ("finished", "diverged"):
            return outcome
        if job is not None and is_alive(job["stage"]):
            self.hub.known[name] = job["id"]
            self.ended_at.pop(name, None)
            return None
        if is_at_work(cell):  # by another command, or by a process that outlives its job
            if name not in self.hub.known:
                self.others.tell(cell)
            return None
        if job is not None and name in self.hub.known:  # its failure is not an old one
            if outcome.status == "failed":
                return outcome
            if job["stage"] == "CANCELED":
                return Outcome("interrupted", f"its job {job['id']} was cancelled")
            over = self.ended_at.setdefault(name, time.monotonic())
            if time.monotonic() - over < self.seconds_to_show:  # the mount here may lag behind the bucket
                return None
            if job["stage"] == "COMPLETED":
                what = f"its job {job['id']} is complete, and {cell.folder} has no result here"
                fix = "" if self.remote else f": is {self.place} mounted at {self.settings.mount}?"
                return Outcome("failed", f"{what}{fix}")
            if (number := self.submissions.fruitless(cell.folder)) >= retries.MOST_FRUITLESS:
                return Outcome("failed", retries.sentence(number, self.hub.last_words(job)))
        lost.append(cell)
        return None

    def _start(self, cells: Sequence[Cell], stop: StopRequest) -> None:
        """Start the jobs of cells, unless another watcher was faster."""
        for cell in cells:
            (cell.folder / FAILURE).unlink(missing_ok=True)
        with lock(self.ablation / "queue.lock", wait=True):
            known = self._jobs([cell.folder.name for cell in cells], stop) or {}
        new = []
        for cell in cells:
            job = known.get(cell.folder.name)
            if job is None or not is_alive(job["stage"]):
                continue
            self.submissions.add(cell.folder)
            self.hub.known[cell.folder.name] = job["id"]
            self.ended_at.pop(cell.folder.name, None)
            new.append(job["url"])
        if new:
            jobs = f"{len(new)} jobs" if len(new) > 1 else "1 job"
            self.say(f"{jobs} of the Hub on {self.settings.flavor} started, the first: {new[0]}")

    def _withdraw(self) -> None:
        try:
            number = self.hub.withdraw()
        except RunFailed as error:
            self.say(f"{error}; a job that waits there ends as soon as it begins")
            return
        self.say(f"{number} waiting jobs cancelled; running ones save a checkpoint and stop")

    def price(self, cells: Sequence[Cell], seconds: Mapping[Cell, float]) -> list[str]:
        """Return what the jobs are, and what they cost by the Hub's own list."""
        chosen = self.settings
        payer = chosen.namespace or "the owner of the token"
        volume = f"bucket {chosen.bucket} at {chosen.mount}" if chosen.bucket else f"runs at {self.address}"
        jobs = f"{len(cells)} jobs of {chosen.image} on {chosen.flavor}, {volume}"
        told = [f"{jobs}, at most {chosen.minutes} minutes each, paid by {payer}"] if cells else []
        try:
            listed = ask("hardware", {"repo": self.place})["dollars_per_hour"]
        except RunFailed as error:
            return [*told, f"price: not known, as {error}"]
        per_hour = self._price_of_flavor(listed)
        known = [seconds[cell] for cell in cells if cell in seconds]
        about = (
            f"; about ${per_hour * sum(known) / 3600:.2f} for the {len(known)} of known time" if known else ""
        )
        most = per_hour * len(cells) * chosen.minutes / 60
        limit = f"; at most ${most:.2f} until each has reached its limit once" if cells else ""
        return [*told, f"price: ${per_hour:.2f} an hour, by the Hub's list of today{about}{limit}"]

    def _price_of_flavor(self, listed: Mapping[str, float]) -> float:
        if self.settings.flavor not in listed:
            offered = ", ".join(f"{name} (${dollars:.2f} an hour)" for name, dollars in listed.items())
            raise UserError(
                "hf_jobs.flavor", "there is no such flavor", self.settings.flavor, f"one of {offered}"
            )
        return listed[self.settings.flavor]

    def prepare(self, cells: Sequence[Cell]) -> list[str]:
        """Return the command of the Hub's client that starts the job of each cell.

        Raises:
            UserError: the client knows no such flavor.
        """
        flavors = [flavor.value for flavor in JobHardware]
        if self.settings.flavor not in flavors:
            accepted = f"one of {', '.join(flavors)} (hf jobs hardware has their prices)"
            raise UserError("hf_jobs.flavor", "there is no such flavor", self.settings.flavor, accepted)
        return [shlex.join(self._command(cell.folder.name)) for cell in cells]

    def _command(self, run: str) -> list[str]:
        chosen = self.settings
        command = ["hf", "jobs", "run", "--detach", "--flavor", chosen.flavor]
        command += ["--timeout", f"{chosen.minutes}m", "--attempts", str(ATTEMPTS)]
        command += ["--volume", f"hf://buckets/{chosen.bucket}:{chosen.mount}:rw"] if chosen.bucket else []
        command += ["--name", f"attnlab-{run}"]
        command += ["--namespace", chosen.namespace] if chosen.namespace else []
        for name, value in chosen.env.items():
            command += ["--env", f"{name}={value}"]
        for name in chosen.secrets:
            command += ["--secrets", name]  # its value comes from the shell of the command
        assert chosen.image is not None, "checked at the start"
        return [*command, chosen.image, *self._in_job(), self.address, run]

    def _in_job(self) -> list[str]:
        """Return what a job runs: the run is asked to stop before the limit, and its status is the job's."""
        asked = ["timeout", "--preserve-status", "--signal=TERM", f"{self.seconds}s"]
        return [*asked, "attnlab", "run-cell"]
