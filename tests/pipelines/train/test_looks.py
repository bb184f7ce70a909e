"""Numbers are read every few steps, as on a GPU: weights and logs are as with a read at each step."""

from __future__ import annotations

import os
import signal
from functools import partial

import pytest
import torch

from pipelines.storage.run_folder import read_log
from pipelines.train import loop
from tests.pipelines.train.harness import fit, run_ranks, weights
from tests.pipelines.train.test_resume import before_step, fit_and_save, same_bits

OPTIONS = {"eval_every_steps": 6, "checkpoint_every_steps": None, "diagnostics_every_steps": None}
SELDOM = {**OPTIONS, "sync_every_steps": 5}


def log(folder):
    return [
        {k: v for k, v in event.items() if k != "seconds"} for event in read_log(folder / "metrics.jsonl")
    ]


def same(one, other):
    first, second = weights(one), weights(other)
    return all(torch.equal(first[name], second[name]) for name in first)


def ask_to_stop(_training):
    os.kill(os.getpid(), signal.SIGTERM)


def poison_one_batch(training):
    """This step's loss alone is not a number; the steps after it would be fine."""
    loss = training.task.loss

    def poisoned(*arguments):
        training.task.loss = loss
        return loss(*arguments) * float("nan")

    training.task.loss = poisoned


def test_seldom_looks_change_neither_weights_nor_log(tmp_path):
    always = fit(tmp_path / "always", **OPTIONS)
    assert same(always, fit(tmp_path / "seldom", **SELDOM))
    assert log(tmp_path / "always") == log(tmp_path / "seldom")


def test_a_look_takes_several_steps_and_none_goes_past_a_duty(tmp_path, monkeypatch):
    looks = []
    read = loop.read_results
    monkeypatch.setattr(loop, "read_results", lambda steps: looks.append(len(steps)) or read(steps))
    fit(tmp_path, **{**SELDOM, "checkpoint_every_steps": 4, "max_steps": 9})
    assert looks == [4, 2, 2, 1], "to the checkpoint of 4, the evaluation of 6, the checkpoint of 8, the end"


def test_a_step_that_is_not_finite_is_the_last_that_counts_and_changes_nothing(tmp_path):
    hook = partial(before_step, 7, poison_one_batch)
    always = fit(tmp_path / "always", **OPTIONS, hook=hook)
    seldom = fit(tmp_path / "seldom", **SELDOM, hook=hook)
    assert seldom.state.diverged_at == always.state.diverged_at == 8
    assert log(tmp_path / "always") == log(tmp_path / "seldom")
    assert same(always, seldom), "the steps between the failure and the look must not count"


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_asked_between_two_looks_it_leaves_at_the_next_and_goes_on_in_the_same_bits(num_ranks, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    options = {**SELDOM, "processes": num_ranks}
    for folder in (whole, stopped):
        folder.mkdir()
    assert set(run_ranks(fit_and_save, num_ranks, whole, options)) == {0}
    hook = partial(before_step, 7, ask_to_stop)
    assert set(run_ranks(fit_and_save, num_ranks, stopped, {**options, "hook": hook})) == {75}
    assert sorted(path.name for path in (stopped / "checkpoints").iterdir()) == [
        "step-00000006",
        "step-00000010",
    ]
    assert set(run_ranks(fit_and_save, num_ranks, stopped, options)) == {0}
    assert same_bits(whole, stopped)
    assert log(whole) == log(stopped)
