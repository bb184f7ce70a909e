"""Parameter groups, learning rates and schedules."""

from __future__ import annotations

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config.load import run_from_dict
from pipelines.train.optimizer import build_optimizer, schedule_factor, set_learning_rate


def config(**changes):
    base = {
        "task": {"name": "ner"},
        "data": {"train": "a.parquet", "validation": "b.parquet"},
        "model": {"architecture": "bert", "family": "encoder"},
    }
    return run_from_dict(base | changes)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.matrix = torch.nn.Parameter(torch.ones(3, 5))
        self.bias = torch.nn.Parameter(torch.ones(5))
        self.log_temperature = torch.nn.Parameter(torch.zeros(3))


def test_variant_scalars_have_their_own_rate_and_no_decay():
    model = Model()
    optimizer = build_optimizer(
        config(learning_rate=2e-5, variant_learning_rate=1e-3),
        model,
        {"log_temperature": model.log_temperature},
    )
    by_parameter = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert by_parameter[id(model.log_temperature)]["base_lr"] == 1e-3
    assert by_parameter[id(model.log_temperature)]["weight_decay"] == 0.0
    assert by_parameter[id(model.bias)]["weight_decay"] == 0.0
    assert by_parameter[id(model.matrix)]["weight_decay"] == 0.01


def test_frozen_parameters_are_left_out():
    model = Model()
    model.log_temperature.requires_grad_(False)
    optimizer = build_optimizer(config(), model, {"log_temperature": model.log_temperature})
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
@given(num_steps=st.integers(1, 300), warmup=st.integers(0, 50))
def test_the_schedule_is_that_of_transformers(kind, num_steps, warmup):
    warmup = min(warmup, num_steps - 1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    name = "constant_with_warmup" if kind == "constant" else kind
    theirs = transformers.get_scheduler(name, optimizer, warmup, num_steps)
    for step in range(min(num_steps, 60)):
        # ours rises to the peak within the warm-up, theirs begins at 0 and so wastes its first step
        if step >= warmup:
            assert schedule_factor(kind, step, num_steps, warmup) == pytest.approx(
                optimizer.param_groups[0]["lr"], abs=1e-12
            )
        optimizer.step()
        theirs.step()


def test_the_first_warm_up_step_moves_and_the_last_reaches_the_peak():
    assert [schedule_factor("linear", step, 100, 4) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_a_step_that_is_not_finite_changes_neither_weights_nor_state():
    model = Model()
    optimizer = build_optimizer(config(), model, {})
    set_learning_rate(optimizer, config(), 0, 10)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, float("nan"))
    optimizer.found_inf = torch.tensor(1.0)
    optimizer.step()
    assert torch.equal(model.matrix, torch.ones(3, 5))
    assert all(not state["exp_avg"].any() for state in optimizer.state.values())
