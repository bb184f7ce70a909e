"""What the loop does for variants: their penalty counts once in a step, and they follow its progress."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from custom_attention import Variant, attached
from pipelines.storage.run_folder import read_log
from tests.pipelines.distributed.test_sharding import fit_sharded
from tests.pipelines.train.harness import fit, run_ranks
from tests.pipelines.train.test_loss import compare
from tests.pipelines.train.test_loss import fit_and_save as fit_and_save_scores
from tests.pipelines.train.test_resume import before_step, die, fit_and_save

STRENGTH = 0.3


class Shrunk(Variant):
    """A gain on each head, whose distance from 2 is penalised."""

    starts_as_stock = True

    def __init__(self, site) -> None:
        super().__init__(site)
        self.gain = nn.Parameter(torch.zeros(site.num_heads, 1))

    def output_gain(self):
        return 1 + self.gain

    def penalty(self):
        return STRENGTH * (1 - self.gain).square().sum()


class Following(Variant):
    """Notes the progress of every forward in training."""

    starts_as_stock = True

    def __init__(self, site) -> None:
        super().__init__(site)
        self.seen: list[float] = []

    def output(self, output, call):
        if self.training and torch.is_grad_enabled():
            self.seen.append(call.progress)
        return output


OPTIONS = {"dropout": 0.0, "attention": [f"{__name__}:Shrunk"]}


def logged(folder, name):
    return [event.get(name) for event in read_log(folder / "metrics.jsonl") if event["event"] == "step"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    fit_and_save_scores(folder, OPTIONS)
    return folder


@pytest.mark.parametrize(
    "changes",
    [{"max_tokens": 17}, {"processes": 2}, {"processes": 2, "sharding": "fsdp2"}],
    ids=["micro-batches", "processes", "shards"],
)
def test_a_penalty_counts_once_however_a_step_is_cut(whole, tmp_path, changes):
    num_ranks = changes.get("processes", 1)
    body = fit_sharded if "sharding" in changes else fit_and_save_scores
    assert run_ranks(body, num_ranks, tmp_path, {**OPTIONS, **changes}) == [0] * num_ranks
    compare(whole, tmp_path)
    assert logged(tmp_path, "penalty") == pytest.approx(logged(whole, "penalty"), rel=1e-5)


def test_a_penalty_is_logged_beside_the_loss_and_not_in_it(whole, tmp_path):
    fit(tmp_path, dropout=0.0, attention=["gain"], max_steps=1)
    assert logged(tmp_path, "penalty") == [None]
    assert logged(whole, "loss")[0] == logged(tmp_path, "loss")[0]
    penalties = logged(whole, "penalty")
    assert penalties[0] == pytest.approx(STRENGTH * 2 * 3)  # two sites of three heads, all gains 0
    assert penalties == sorted(penalties, reverse=True)


def test_the_gradient_of_a_penalty_is_added_to_that_of_the_mean_loss(tmp_path):
    found = []
    for attention in (OPTIONS["attention"], ["gain"]):
        options = {"max_steps": 1, "max_tokens": 17, "max_grad_norm": None, "learning_rate": 1e-9}
        options["hook"] = partial(_keep_gradients, found)
        fit(tmp_path / attention[0], dropout=0.0, attention=attention, **options)
    with_penalty, without = ({name.replace("excess", "gain"): g for name, g in one.items()} for one in found)
    assert with_penalty.keys() == without.keys()
    for name, gradient in with_penalty.items():
        extra = -2 * STRENGTH if "gain" in name else 0.0
        torch.testing.assert_close(gradient.flatten(), without[name].flatten() + extra, rtol=0, atol=1e-6)


def _keep_gradients(found, training):
    step = training.engine.optimizer.step

    def keep(*arguments):
        named = training.model.named_parameters()
        found.append({name: p.grad.clone() for name, p in named if p.grad is not None})
        return step(*arguments)

    training.engine.optimizer.step = keep


def test_progress_runs_from_0_to_1_and_is_that_of_the_weights_that_are_kept(tmp_path):
    training = fit(tmp_path, attention=[f"{__name__}:Following"], max_steps=12, hook=_keep_the_first_score)
    [(_, stack), *_] = attached(training.model)
    assert stack.variants[0].seen == [step / 11 for step in range(12)]
    assert training.state.best_step == 5
    assert stack.state.progress == 4 / 11  # that of the step that gave these weights


def _keep_the_first_score(training):
    evaluate = training._evaluate

    def once(validation):
        if training.state.best_step is None:
            evaluate(validation)

    training._evaluate = once


def test_a_schedule_is_a_function_of_the_step_so_a_killed_run_ends_with_the_same_bits(tmp_path):
    options = {"attention": [{"drop_head": {"start": 0.5, "end": 0.5, "turn": 0.4}}]}
    assert run_ranks(fit_and_save, 1, tmp_path / "whole", options) == [0]
    killed = {**options, "hook": partial(before_step, 7, die)}
    assert run_ranks(fit_and_save, 1, tmp_path / "killed", killed) != [0]
    assert run_ranks(fit_and_save, 1, tmp_path / "killed", options) == [0]
    one, other = (load_file(tmp_path / name / "final.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert logged(tmp_path / "whole", "loss") == logged(tmp_path / "killed", "loss")


@pytest.mark.parametrize("sharding", ["none", "fsdp2"])
def test_variants_that_read_hidden_states_and_earlier_sites_train_on_two_processes_as_on_one(
    tmp_path, sharding
):
    variants = ["hidden_gate", "value_residual", "projected_differential", "layer_scale"]
    options = {"architecture": "gpt2", "dropout": 0.0, "max_tokens": 31, "attention": variants}
    assert run_ranks(fit_and_save_scores, 1, tmp_path / "one", options) == [0]
    options |= {"processes": 2, "sharding": sharding}
    body = fit_sharded if sharding == "fsdp2" else fit_and_save_scores
    assert run_ranks(body, 2, tmp_path / "two", options) == [0, 0]
    compare(tmp_path / "one", tmp_path / "two")
