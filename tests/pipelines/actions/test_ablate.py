"""The exit status of an ablation: a run that failed is a failure, one that diverged a finding."""

from __future__ import annotations

import os
import signal

import pytest

from pipelines.ablation.cell import Outcome, outcome_of
from pipelines.actions import ablate
from pipelines.errors import Interrupted, RunFailed
from tests.pipelines import stored_ablation as made


class Stand:
    """An executor whose runs all end in one way, without a result."""

    at_a_time = 1
    when_stopped = ""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome

    def run(self, cells, *, stop, on_outcome):
        for cell in cells:
            on_outcome(cell, self.outcome)


def ended(monkeypatch, tmp_path, outcome, finished=(1, 2)):
    folder = made.write(tmp_path, finished=finished)
    monkeypatch.setattr(ablate, "executor_of", lambda *_, **__: Stand(outcome))
    ablate.ablate_command(made.config(), str(folder))
    return folder


def test_a_failed_run_is_reported_and_then_a_failure(monkeypatch, tmp_path):
    failed = "2 runs failed, the first: toy / stock / seed 3: no memory. The same command tries again"
    with pytest.raises(RunFailed, match=failed):
        ended(monkeypatch, tmp_path, Outcome("failed", "no memory."))
    assert (tmp_path / "toy" / "report.html").exists()


def test_a_whole_cell_that_failed_is_a_failure(monkeypatch, tmp_path):
    with pytest.raises(RunFailed, match="no run finished; the first: no memory"):
        ended(monkeypatch, tmp_path, Outcome("failed", "no memory"), finished=())


def test_runs_that_all_finished_are_none(monkeypatch, tmp_path):
    folder = ended(monkeypatch, tmp_path, Outcome("failed", "never asked"), finished=None)
    assert (folder / "report.html").exists()


def test_a_diverged_run_is_a_finding(monkeypatch, tmp_path):
    diverged = Outcome("diverged", "loss not finite at step 3")
    monkeypatch.setattr(ablate, "outcome_of", lambda cell: diverged if cell.seed == 3 else outcome_of(cell))
    ended(monkeypatch, tmp_path, diverged)


@pytest.fixture
def order(monkeypatch) -> list[str]:
    """What is done in which order: the executor gets ready, the ablation is registered."""
    order: list[str] = []
    register = ablate.register
    monkeypatch.setattr(ablate, "get_ready", lambda *_: order.append("ready"))
    monkeypatch.setattr(
        ablate, "register", lambda *given, **how: order.append("registered") or register(*given, **how)
    )
    return order


def test_an_executor_gets_ready_while_the_ablation_is_registered(monkeypatch, tmp_path, order):
    with pytest.raises(RunFailed):
        ended(monkeypatch, tmp_path, Outcome("failed", "no memory"))
    assert order == ["ready", "registered"]


def test_where_every_run_has_ended_nothing_gets_ready(monkeypatch, tmp_path, order):
    ended(monkeypatch, tmp_path, Outcome("failed", "never asked"), finished=None)
    assert order == ["registered"]


@pytest.mark.parametrize(("way", "done"), [("dry_run", []), ("prepare", ["registered"])])
def test_where_no_run_is_made_nothing_gets_ready(tmp_path, order, way, done):
    folder = made.write(tmp_path, finished=(1,))
    assert ablate.run_ablation(made.config(), str(folder), **{way: True}) == {}
    assert order == done


def test_asked_to_stop_during_the_registration_no_run_starts(monkeypatch, tmp_path):
    folder = made.write(tmp_path, finished=(1,))
    declare = ablate.declare
    monkeypatch.setattr(
        ablate, "declare", lambda *given, **how: (os.kill(os.getpid(), signal.SIGINT), declare(*given, **how))
    )
    monkeypatch.setattr(ablate, "get_ready", lambda *_: None)
    with pytest.raises(Interrupted, match="stopped by SIGINT; start the same command again to resume"):
        ablate.run_ablation(made.config(), str(folder))
