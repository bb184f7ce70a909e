"""The exit status of an ablation: a run that failed is a failure, one that diverged a finding."""

from __future__ import annotations

import pytest

from pipelines.ablation.cell import Outcome, outcome_of
from pipelines.actions import ablate
from pipelines.errors import RunFailed
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
