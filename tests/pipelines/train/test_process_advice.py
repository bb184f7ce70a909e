"""Advice on several processes: what they change, the measured speed-up, and that measuring changes no bit."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file

from pipelines.train import process_advice
from pipelines.train.batches import BatchPlan
from tests.pipelines.train.harness import config, run_ranks
from tests.pipelines.train.test_loss import fit_and_save, losses

OPTIONS = {"processes": 2, "max_steps": 6, "max_tokens": 31, "checkpoint_every_steps": None}


def measuring(training):
    """Measure early, and keep what this rank says in a file."""
    process_advice.AFTER_STEP = 3
    said = training.folder.path / f"said-{training.accelerator.process_index}.txt"
    training.reporter.say = lambda sentence: said.open("a").write(f"{sentence}\n")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("measured")
    assert run_ranks(fit_and_save, 2, folder, OPTIONS | {"hook": measuring}) == [0, 0]
    return folder


def test_measuring_changes_no_bit_of_the_run(measured, tmp_path):
    assert run_ranks(fit_and_save, 2, tmp_path, OPTIONS) == [0, 0]
    assert losses(measured) == losses(tmp_path)
    one, other = (load_file(folder / "final.safetensors") for folder in (measured, tmp_path))
    assert all(one[name].equal(other[name]) for name in one)


def test_a_run_on_two_processes_says_once_what_they_are_worth(measured):
    said = (measured / "said-0.txt").read_text()
    assert said.count("examples per second so far; forward and backward of a step take") == 1
    assert "s on 2 processes and" in said


def test_the_advice_is_by_the_ratio_that_was_measured():
    poor = process_advice.sentence(4, 30.9, shared=0.5, alone=1.0)
    assert "2 times as fast, where linear is 4; 4 runs side by side would do 2 times the work" in poor
    assert "a learning rate that grows with it" in poor
    good = process_advice.sentence(4, 99.0, shared=0.25, alone=0.9)
    assert good.endswith("3.6 times as fast, where linear is 4; more processes may pay")


def test_the_global_batch_stays_and_the_micro_batches_adjust():
    """By hand: five examples of ten tokens, at most twenty in a micro-batch."""
    plan = BatchPlan([1] * 5, [10] * 5, seed=1, batch_size=5, max_tokens=20, num_ranks=2)
    said = process_advice.shared_batch(config("bert", processes=2, batch_size=5, max_tokens=20), plan)
    assert "a step stays at 5 examples over all 2 processes; accumulation goes from 3 micro-batches" in said
    assert "to 2 on each" in said
    assert "nothing to do" not in said
    assert plan.step(0).examples == plan.for_ranks(1).step(0).examples
    idle = process_advice.shared_batch(config("bert", processes=8, batch_size=5), plan.for_ranks(8))
    assert "8 processes, some of which have nothing to do; accumulation goes from 3 micro-batches" in idle
