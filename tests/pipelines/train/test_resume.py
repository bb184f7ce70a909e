"""Guarantees 5, 8 and 11: a killed or stopped run ends with the same bits; a diverged one ends in order."""

from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.distributed.stop import EXIT_INTERRUPTED
from pipelines.errors import Interrupted
from pipelines.storage.run_folder import read_log
from tests.pipelines.train.harness import ARCHITECTURES, fit, run_ranks, weights


def fit_and_save(folder, options):
    try:
        training = fit(folder, **options)
    except Interrupted:
        sys.exit(EXIT_INTERRUPTED)
    if training.accelerator.is_main_process:
        save_file({n: t.contiguous() for n, t in weights(training).items()}, folder / "final.safetensors")


# Hooks change a training before it starts; they travel to the ranks, so they are partials of functions.
def before_step(step, action, training):
    """Call `action(training)` when this step begins."""
    take = training.engine.take_step

    def taking(plan_step):
        if plan_step.number == step:
            action(training)
        return take(plan_step)

    training.engine.take_step = taking


def die(*_arguments):
    os.kill(os.getpid(), signal.SIGKILL)


def ask(number, only_rank, training):
    if training.accelerator.process_index == only_rank:
        os.kill(os.getpid(), number)


def poison(only_rank, training):
    if training.accelerator.process_index == only_rank:
        loss = training.task.loss
        training.task.loss = lambda *arguments: loss(*arguments) * float("nan")


def die_while_saving(training):
    def save(step, *_arguments, **_options):
        target = training.store.folder / f"step-{step:08d}"
        target.mkdir(parents=True)
        (target / "model.safetensors").write_bytes(b"half a file")
        die()

    training.store.save = save


def die_while_evaluating(training):
    training.score = die


def same_bits(one, other):
    first, second = load_file(one / "final.safetensors"), load_file(other / "final.safetensors")
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def same_log(one, other):
    clean = [
        [{k: v for k, v in event.items() if k != "seconds"} for event in read_log(path / "metrics.jsonl")]
        for path in (one, other)
    ]
    seen = [(path / "diagnostics.jsonl").read_text() for path in (one, other)]
    return clean[0] == clean[1] and seen[0] == seen[1]


@pytest.fixture(scope="module", params=[(a, n) for a in ARCHITECTURES for n in (1, 2)], ids=str)
def uninterrupted(request, tmp_path_factory):
    architecture, num_ranks = request.param
    folder = tmp_path_factory.mktemp("whole")
    options = {"architecture": architecture, "processes": num_ranks, "max_tokens": 31}
    options |= {"attention": ["gate", "temperature"], "diagnostics_every_steps": 3}
    assert set(run_ranks(fit_and_save, num_ranks, folder, options)) == {0}
    return folder, options


def test_killed_anywhere_it_ends_in_the_same_bits(uninterrupted, tmp_path):
    whole, options = uninterrupted
    hooks = (
        partial(before_step, 3, die),
        die_while_saving,
        die_while_evaluating,
        partial(before_step, 11, die),
    )
    for hook in hooks:
        codes = run_ranks(fit_and_save, options["processes"], tmp_path, {**options, "hook": hook})
        assert -signal.SIGKILL in codes
    assert set(run_ranks(fit_and_save, options["processes"], tmp_path, options)) == {0}
    assert same_bits(whole, tmp_path)
    assert same_log(whole, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_asked_to_stop_all_ranks_leave_together_and_the_run_goes_on_in_the_same_bits(
    uninterrupted, tmp_path, number
):
    whole, options = uninterrupted
    last_rank = options["processes"] - 1
    hook = partial(before_step, 6, partial(ask, number, last_rank))
    begun = time.monotonic()
    codes = run_ranks(fit_and_save, options["processes"], tmp_path, {**options, "hook": hook})
    assert set(codes) == {EXIT_INTERRUPTED}
    assert time.monotonic() - begun < 30
    assert set(run_ranks(fit_and_save, options["processes"], tmp_path, options)) == {0}
    assert same_bits(whole, tmp_path)
    assert same_log(whole, tmp_path)


def fit_diverging(folder, options):
    training = fit(folder, **options)
    assert training.state.diverged_at == 8
    before = training.store.newest_valid().model_tensors() if training.accelerator.is_main_process else {}
    final = weights(training)
    assert all(torch.isfinite(tensor).all() for tensor in final.values() if tensor.is_floating_point())
    assert all(torch.isfinite(tensor).all() for tensor in before.values() if tensor.is_floating_point())


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_a_loss_that_is_not_finite_on_one_rank_stops_all_within_the_step(num_ranks, tmp_path):
    options = {"processes": num_ranks, "hook": partial(before_step, 7, partial(poison, num_ranks - 1))}
    assert set(run_ranks(fit_diverging, num_ranks, tmp_path, options)) == {0}
    events = read_log(tmp_path / "metrics.jsonl")
    assert events[-1]["event"] == "diverged"
    assert events[-1]["step"] == 8
    assert max(event["step"] for event in events if event["event"] == "step") == 7
