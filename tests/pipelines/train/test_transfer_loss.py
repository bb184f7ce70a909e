"""A transfer loss of a step is one mean, however the step is cut, computed or shared."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from custom_attention import attached, set_progress
from pipelines.models.activations import recompute_activations
from pipelines.storage.run_folder import read_log
from pipelines.train.speed import unpadding
from tests.pipelines.distributed.test_sharding import fit_sharded
from tests.pipelines.train.harness import fit, run_ranks
from tests.pipelines.train.test_loss import compare, fit_and_save

OPTIONS = {"dropout": 0.0, "attention": [{"t2r": {"stage": 0.6}}], "learning_rate": 1e-3}
OPTIONS |= {"variant_learning_rate": 1e-2}


def logged(folder, name):
    return [event.get(name) for event in read_log(folder / "metrics.jsonl") if event["event"] == "step"]


def recompute(training):
    recompute_activations(training.model)


@pytest.fixture(scope="module", params=["gpt2"])
def whole(request, tmp_path_factory):
    """A run whose steps are single micro-batches in one process: 12 steps, of which 7 transfer."""
    folder, options = tmp_path_factory.mktemp(request.param), {**OPTIONS, "architecture": request.param}
    assert run_ranks(fit_and_save, 1, folder, options) == [0]
    return folder, options


@pytest.mark.parametrize(
    "changes",
    [
        {"max_tokens": 17},
        {"processes": 2, "max_tokens": 31},
        {"processes": 2, "sharding": "fsdp2"},
        {"hook": recompute, "max_tokens": 31},
    ],
    ids=["micro-batches", "processes", "shards", "recomputed"],
)
def test_a_transfer_loss_is_one_mean_however_a_step_is_computed(whole, tmp_path, changes):
    folder, options = whole
    num_ranks = changes.get("processes", 1)
    body = fit_sharded if "sharding" in changes else fit_and_save
    assert run_ranks(body, num_ranks, tmp_path, {**options, **changes}) == [0] * num_ranks
    compare(folder, tmp_path)
    assert logged(tmp_path, "transfer") == pytest.approx(logged(folder, "transfer"), rel=1e-4)


def test_padding_that_is_computed_changes_nothing(whole, tmp_path, monkeypatch):
    folder, options = whole
    monkeypatch.setattr(unpadding, "layers_of", lambda model: None)
    training = fit(tmp_path, **options)
    assert training.engine.unpadding is None
    assert logged(tmp_path, "transfer") == pytest.approx(logged(folder, "transfer"), rel=1e-4)


def test_it_is_logged_beside_the_loss_falls_and_ends_with_its_stage(whole, tmp_path):
    folder, options = whole
    losses = logged(folder, "transfer")
    assert 0 < losses[6] < 0.6 * losses[0]
    assert losses[7:] == [0.0] * 5
    fit(tmp_path, **{**options, "attention": [], "max_steps": 1})
    assert logged(tmp_path, "transfer") == [None]
    assert logged(folder, "loss")[0] == pytest.approx(logged(tmp_path, "loss")[0], rel=1e-6)


def test_its_gradient_in_a_step_is_that_of_a_mean_over_the_inputs(tmp_path):
    """By hand: each input of the step by itself, without padding, its mean over queries."""
    gradients = {}
    options = {**OPTIONS, "max_steps": 1, "max_tokens": 17, "max_grad_norm": None, "learning_rate": 1e-9}
    options["variant_learning_rate"] = 1e-9
    training = fit(tmp_path, **options, hook=partial(_keep_gradients, gradients))
    model = training.model.train()
    features = [training.train.features[index] for index in training.plan.step(0).examples]
    set_progress(model, 0.0)
    model.zero_grad()
    for feature in features:
        outputs = model(input_ids=torch.tensor([feature["input_ids"]])).logits
        (outputs.sum() * 0).backward()
    for name, parameter in model.named_parameters():
        if ".attnlab." in name:
            expected = parameter.grad / len(features)
            torch.testing.assert_close(gradients[name], expected, rtol=1e-4, atol=1e-8)
    assert len(attached(training.model)) == 2


def _keep_gradients(found, training):
    step = training.engine.optimizer.step

    def keep(*arguments):
        found.update({n: p.grad.clone() for n, p in training.model.named_parameters() if p.grad is not None})
        return step(*arguments)

    training.engine.optimizer.step = keep
