"""What the watcher of Slurm jobs makes of the queue, with a queue that says what a test wants."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipelines.ablation.cell import Outcome, outcome_of
from pipelines.ablation.folder import open_ablation
from pipelines.cli.main import main
from pipelines.config.ablation import SlurmConfig
from pipelines.distributed.stop import StopRequest
from pipelines.errors import UserError
from pipelines.executors import retries, slurm
from pipelines.executors import slurm_queue as queue
from pipelines.storage.names import SEAL
from tests.pipelines.executors.test_executors import write


class Queue:
    """Slurm as a watcher sees it: jobs get numbers, `say(look, jobs)` gives their states at every look."""

    def __init__(self, monkeypatch, out, say):
        self.submissions: list[list[str]] = []  # names of the runs in each array
        self.jobs: list[str] = []
        self.looks, self.out, self.say, self.said = 0, out, say, []
        self.stop, self.stopped_at = StopRequest(), None
        monkeypatch.setattr(slurm.shutil, "which", lambda program: program)
        monkeypatch.setattr(slurm, "SECONDS_BETWEEN_LOOKS", 0.0)
        monkeypatch.setattr(slurm, "largest_array", lambda: 1000)
        monkeypatch.setattr(slurm.submitit, "SlurmExecutor", lambda *_, **__: self)
        monkeypatch.setattr(queue, "states", self.states)

    def update_parameters(self, **_):
        pass

    def map_array(self, _, cells):
        self.submissions.append([cell.folder.name for cell in cells])
        ids = [f"{len(self.submissions)}_{index}" for index in range(len(cells))]
        self.jobs += ids
        return [SimpleNamespace(job_id=job) for job in ids]

    def states(self):
        self.looks += 1
        assert self.looks < 100, "the watcher does not come to an end"
        if self.looks == self.stopped_at:
            self.stop.signal_name = "SIGTERM"
        return self.say(self.looks, self.jobs)

    def watch(self, stopped_at=None):
        """Watch the one run of the ablation, until somebody stops it at a look; how it ended."""
        self.stopped_at, ended = stopped_at, []
        executor = slurm.SlurmExecutor(SlurmConfig(), self.out, self.said.append)
        executor.run(
            open_ablation(self.out).cells,
            stop=self.stop,
            on_outcome=lambda cell, outcome: ended.append(outcome),
        )
        return ended


@pytest.fixture
def out(tmp_path):
    file, out = write(tmp_path, arms={"stock": []}), tmp_path / "runs" / "toy"
    assert main(["ablate", str(file), "--out", str(out), "--prepare"]) == 0
    return out


def run_folder(out):
    [cell] = open_ablation(out).cells
    cell.folder.mkdir(parents=True, exist_ok=True)
    return cell.folder


def test_a_run_whose_jobs_vanish_is_submitted_again_and_given_up_in_the_end(out, monkeypatch):
    slurm_queue = Queue(monkeypatch, out, lambda look, jobs: {})
    [outcome] = slurm_queue.watch()
    assert len(slurm_queue.submissions) == retries.MOST_FRUITLESS
    assert outcome.status == "failed"
    assert "started 4 times in a row without a new checkpoint" in outcome.reason


def test_a_run_that_gets_on_between_its_lost_jobs_is_not_given_up(out, monkeypatch):
    folder, tries = run_folder(out), 3 * retries.MOST_FRUITLESS

    def say(look, jobs):
        if len(jobs) == tries:
            (folder / "failure.txt").write_text("that is enough\n")
        checkpoint = folder / "checkpoints" / f"step-{len(jobs):08d}"
        checkpoint.mkdir(parents=True, exist_ok=True)
        (checkpoint / SEAL).touch()
        return {}

    slurm_queue = Queue(monkeypatch, out, say)
    [outcome] = slurm_queue.watch()
    assert len(slurm_queue.submissions) == tries
    assert outcome.reason == "that is enough"


def test_nothing_of_submitit_is_left_of_a_run_that_took_two_jobs(out, monkeypatch):
    folder = out / slurm.FOLDER
    folder.mkdir()

    def say(look, jobs):
        if len(jobs) == 2 and slurm.outcome_of is outcome_of:
            for job in jobs:
                (folder / f"{job}_submitted.pkl").touch()
            monkeypatch.setattr(slurm, "outcome_of", lambda cell: Outcome("finished"))
        return {}

    slurm_queue = Queue(monkeypatch, out, say)
    [outcome] = slurm_queue.watch()
    assert (outcome.status, len(slurm_queue.submissions)) == ("finished", 2)
    assert not list(folder.iterdir())


def test_a_run_that_failed_is_reported_and_not_submitted_again(out, monkeypatch):
    def say(look, jobs):
        if jobs:
            (run_folder(out) / "failure.txt").write_text("data: no such file\n")
        return dict.fromkeys(jobs, "COMPLETED")

    slurm_queue = Queue(monkeypatch, out, say)
    [outcome] = slurm_queue.watch()
    assert len(slurm_queue.submissions) == 1
    assert (outcome.status, outcome.reason) == ("failed", "data: no such file")


def test_a_job_that_somebody_cancelled_is_not_submitted_again(out, monkeypatch):
    slurm_queue = Queue(monkeypatch, out, lambda look, jobs: dict.fromkeys(jobs, "CANCELLED"))
    [outcome] = slurm_queue.watch()
    assert len(slurm_queue.submissions) == 1
    assert (outcome.status, outcome.reason) == ("interrupted", "its job 1_0 was cancelled")


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "REQUEUED", "SUSPENDED", "A STATE TO COME"])
def test_a_run_that_another_watcher_has_submitted_is_waited_for(out, monkeypatch, state):
    queue.remember_jobs(out, {run_folder(out).name: "17_3"})
    slurm_queue = Queue(monkeypatch, out, lambda look, jobs: {"17_3": state})
    assert slurm_queue.watch(stopped_at=5) == []
    assert slurm_queue.submissions == []


@pytest.mark.parametrize("answers", [0, 1])
def test_a_queue_that_answers_every_other_time_gets_no_run_twice(out, monkeypatch, answers):
    """It is asked at each look, and again before submitting: another watcher may have been faster."""
    queue.remember_jobs(out, {run_folder(out).name: "17_3"})
    slurm_queue = Queue(monkeypatch, out, lambda look, jobs: {} if look == 1 or look % 2 == answers else None)
    assert slurm_queue.watch(stopped_at=8) == []
    assert slurm_queue.submissions == []


def test_a_silent_queue_is_told_once(out, monkeypatch):
    slurm_queue = Queue(monkeypatch, out, lambda look, jobs: {} if look in (1, 5) else None)
    assert slurm_queue.watch(stopped_at=9) == []
    assert [sentence.startswith("squeue does not answer") for sentence in slurm_queue.said] == [True, True]


def test_a_queue_that_never_answers_is_one_sentence_and_the_same_command_goes_on(out, monkeypatch):
    slurm_queue = Queue(monkeypatch, out, lambda look, jobs: {} if look > 1 else None)
    with pytest.raises(UserError) as refused:
        slurm_queue.watch()
    assert str(refused.value).startswith("--executor slurm: squeue does not answer; nothing was submitted; ")
    assert slurm_queue.submissions == []
    assert slurm_queue.watch(stopped_at=5) == []
    assert slurm_queue.submissions[0] == [run_folder(out).name]
