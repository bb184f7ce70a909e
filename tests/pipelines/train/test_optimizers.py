"""Each optimizer takes the steps of its reference, resumes with the same bits, skips what is not finite."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import transformers

from pipelines.config.load import run_from_dict
from pipelines.errors import Interrupted, UserError
from pipelines.models.freeze import freeze
from pipelines.train.muon import layer_matrices
from pipelines.train.optimizer import build_optimizer, num_warmup_steps, set_learning_rate
from tests.pipelines.train.harness import example_batch, fit, tiny_model, weights
from tests.pipelines.train.test_resume import ask, before_step, poison

RATES = {"adamw": 3e-3, "adafactor": 3e-3, "sgd": 0.05, "muon": 3e-3}
BASE = {
    "task": {"name": "ner"},
    "data": {"train": "a.parquet", "validation": "b.parquet"},
    "model": {"architecture": "bert", "family": "encoder"},
    "learning_rate": 4e-3,
    "weight_decay": 0.1,
    "schedule": "constant",
}


def config(**changes):
    return run_from_dict(BASE | changes)


def loss_of(model):
    batch = example_batch()
    return model(**batch).logits.float().square().mean()


def parts(model):
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    return decayed, [p for p in model.parameters() if p.ndim < 2]


def groups(decayed, others):
    return [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]


def theirs_adafactor(model, rate):
    """As Trainer builds it from TrainingArguments(optim="adafactor")."""
    arguments = transformers.TrainingArguments("unused", optim="adafactor", learning_rate=rate, report_to=[])
    made, options = transformers.Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    return [made(groups(*parts(model)), **options)]


def theirs_sgd(model, rate):
    return [torch.optim.SGD(groups(*parts(model)), lr=rate, momentum=0.8)]


def theirs_muon(model, rate):
    """Muon for the matrices in encoder.layer, AdamW for embeddings, head and vectors."""
    inside = [
        p
        for name, p in model.named_parameters()
        if name.startswith("bert.encoder.layer.") and name.endswith("weight") and p.ndim == 2
    ]
    decayed, others = parts(model)
    outside = [p for p in decayed if not any(p is one for one in inside)]
    return [
        torch.optim.Muon(inside, lr=rate, weight_decay=0.1, momentum=0.8, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(groups(outside, others), lr=rate, fused=True),  # Muon computes in bfloat16,
    ]


@pytest.mark.parametrize(
    ("name", "theirs", "options"),
    [
        ("adafactor", theirs_adafactor, {}),
        ("sgd", theirs_sgd, {"momentum": 0.8}),
        ("muon", theirs_muon, {"momentum": 0.8}),
    ],
)
def test_the_steps_are_those_of_the_reference(name, theirs, options):
    asked = config(optimizer=name, **options)
    mine, other = tiny_model("bert", 0.0), tiny_model("bert", 0.0)
    ours, references = build_optimizer(asked, mine, {}), theirs(other, asked.learning_rate)
    for step in range(6):
        set_learning_rate(ours, asked, step, 6)
        for model, optimizers in ((mine, [ours]), (other, references)):
            loss_of(model).backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    start = tiny_model("bert", 0.0).state_dict()
    for key, value in mine.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[key], rtol=1e-5, atol=1e-6)
    moved = [key for key, value in mine.state_dict().items() if not torch.equal(value, start[key])]
    assert len(moved) > 30


@pytest.mark.parametrize(
    ("architecture", "left_out"),
    [
        ("bert", ("word_embeddings", "position_embeddings", "classifier")),
        ("gpt2", ("wte", "wpe", "score")),
        ("t5", ("shared", "relative_attention_bias", "classifier")),
    ],
)
def test_muon_trains_the_matrices_of_the_layers_only(architecture, left_out):
    model = tiny_model(architecture, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [names[id(parameter)] for parameter in layer_matrices(model)]
    assert len(found) >= 8
    assert not [name for name in found if any(part in name for part in left_out)]
    assert all(dict(model.named_parameters())[name].ndim == 2 for name in found)


def test_muon_without_a_layer_to_train_is_refused():
    model = tiny_model("bert", 0.0)
    freeze(model, ["encoder"], train_variant=True)
    with pytest.raises(UserError, match="muon trains the matrices of layers, and this run trains none"):
        build_optimizer(config(optimizer="muon"), model, {})


def options_of(name: str) -> dict:
    more = {"momentum": 0.9} if name == "sgd" else {}
    return {"optimizer": name, "learning_rate": RATES[name], "attention": ["gate"], **more}


@pytest.mark.parametrize("name", RATES)
def test_a_stopped_run_resumes_with_the_same_bits(name, tmp_path):
    options = options_of(name)
    whole = fit(tmp_path / "whole", **options)
    with pytest.raises(Interrupted):
        fit(tmp_path / "cut", hook=partial(before_step, 7, partial(ask, 10, 0)), **options)
    resumed = fit(tmp_path / "cut", **options)
    assert resumed.state.step == whole.state.step == 12
    for key, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[key]), key
    state = [one.engine.optimizer.optimizer.state_dict()["state"] for one in (whole, resumed)]
    assert state[0].keys() == state[1].keys() != set()
    for index, entries in state[0].items():
        for entry, value in entries.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(state[1][index][entry])), entry


@pytest.mark.parametrize("name", RATES)
def test_a_step_that_is_not_finite_changes_no_weight(name, tmp_path):
    options = options_of(name) | {"schedule": "constant", "eval_every_steps": 50}
    before = fit(tmp_path / "before", max_steps=7, **options)
    stopped = fit(tmp_path / "stopped", hook=partial(before_step, 7, partial(poison, 0)), **options)
    assert stopped.state.diverged_at == 8
    for key, value in weights(before).items():
        assert torch.equal(value, weights(stopped)[key]), key


# ---- warm-up by steps
def test_warmup_steps_are_counted_and_replace_the_ratio():
    assert num_warmup_steps(config(warmup_ratio=0.25), 40) == 10
    assert num_warmup_steps(config(warmup_steps=3), 40) == 3
    assert num_warmup_steps(config(warmup_steps=0), 40) == 0
    optimizer = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.ones(1))], "base_lr": 1.0}], lr=1.0)
    asked = config(warmup_steps=4, learning_rate=1.0)
    assert [set_learning_rate(optimizer, asked, step, 9) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]


def test_a_warm_up_as_long_as_the_run_is_refused_before_the_first_step(tmp_path):
    with pytest.raises(
        UserError, match=r"warmup_steps: the warm-up must end before the 12 steps .* at most 11"
    ):
        fit(tmp_path, warmup_steps=12)
