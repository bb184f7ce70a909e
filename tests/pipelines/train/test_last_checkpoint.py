"""The checkpoint after the last step: weights without moments, from which a run ends as it would have."""

from __future__ import annotations

import pytest
import torch

from pipelines.train import loop
from tests.pipelines.train.harness import fit, weights


def moments_by_step(training) -> dict[int, bool]:
    """Return for each checkpoint whether it holds the moments of the optimizer."""
    folders = training.store.folder.glob("step-*[0-9]")
    found = [training.store.at(int(folder.name.removeprefix("step-"))) for folder in folders]
    return {checkpoint.step: bool(checkpoint.optimizer_tensors()) for checkpoint in found}


def same(one, other) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.fixture
def no_step(monkeypatch):
    def forbid():
        monkeypatch.setattr(loop.Engine, "take_step", lambda *_: pytest.fail("a step was taken"))

    return forbid


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor", "muon"])
def test_only_the_checkpoint_after_the_last_step_is_without_moments(tmp_path, optimizer):
    training = fit(tmp_path, optimizer=optimizer, max_steps=7, checkpoint_every_steps=3)
    assert moments_by_step(training)[7] is False
    assert [has for step, has in moments_by_step(training).items() if step < 7] == [True]


def test_a_run_that_fell_after_its_last_step_ends_without_another(tmp_path, no_step):
    whole = fit(tmp_path)
    no_step()
    again = fit(tmp_path)
    assert again.state == whole.state
    assert same(weights(whole), weights(again))


def test_where_the_last_checkpoint_is_damaged_the_one_before_has_the_moments_to_go_on_with(tmp_path):
    whole = fit(tmp_path)
    last = {name: tensor.clone() for name, tensor in whole.store.at(12).model_tensors().items()}
    (whole.store.folder / "step-00000012" / "model.safetensors").write_bytes(b"damaged")
    again = fit(tmp_path)
    assert again.state.step == 12
    assert same(last, again.store.at(12).model_tensors())
    assert same(weights(whole), weights(again))


def test_early_stopping_ends_a_run_too(tmp_path, no_step):
    options = {"max_steps": 400, "eval_every_steps": 1, "early_stopping_patience": 1, "learning_rate": 1e-9}
    whole = fit(tmp_path, **options)
    last = whole.state.step
    assert last < 400
    assert moments_by_step(whole)[last] is False
    no_step()
    assert fit(tmp_path, **options).state == whole.state
