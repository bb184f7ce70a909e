"""Guarantee 14: two ranks that share the weights (FSDP2) train, save and resume as copies do."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest
import torch
import transformers
from torch.distributed.tensor import DTensor

from tests.pipelines.train.harness import fit, run_ranks
from tests.pipelines.train.test_loss import compare
from tests.pipelines.train.test_loss import fit_and_save as fit_one
from tests.pipelines.train.test_resume import before_step, die, same_bits

OPTIONS = {"architecture": "gpt2", "max_tokens": 31, "attention": ["gate"]}
SHARDED = {**OPTIONS, "processes": 2, "sharding": "fsdp2"}


def require_shares(training):
    """Without this the test would pass on copies."""
    parameters = list(training.engine.model.parameters())
    assert all(isinstance(parameter, DTensor) for parameter in parameters)
    local = sum(parameter.to_local().numel() for parameter in parameters)
    assert local < 0.7 * sum(parameter.numel() for parameter in parameters)


def fit_sharded(folder, options):
    from safetensors.torch import save_file

    from pipelines.models import saving
    from pipelines.train.checkpoint import model_tensors

    training = fit(folder, **options)
    model, first = training.model, training.accelerator.is_main_process
    tensors = model_tensors(model)
    if first:
        save_file(tensors, folder / "final.safetensors")
    nothing = SimpleNamespace(save_pretrained=lambda folder: None)
    saving.save(model, nothing, folder / "model", writes=first)


def test_sharded_ranks_train_as_one_process_does(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert run_ranks(fit_one, 1, one, {**OPTIONS, "dropout": 0.0}) == [0]
    assert run_ranks(fit_sharded, 2, two, {**SHARDED, "dropout": 0.0, "hook": require_shares}) == [0, 0]
    compare(one, two)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded")
    assert run_ranks(fit_sharded, 2, folder, SHARDED) == [0, 0]
    return folder


def test_a_killed_sharded_run_ends_in_the_same_bits(uninterrupted, tmp_path):
    assert 0 not in run_ranks(fit_sharded, 2, tmp_path, {**SHARDED, "hook": partial(before_step, 7, die)})
    assert run_ranks(fit_sharded, 2, tmp_path, SHARDED) == [0, 0]
    assert same_bits(uninterrupted, tmp_path)


def test_a_checkpoint_of_shares_is_a_whole_one(uninterrupted):
    """So it can be read without the processes that wrote it."""
    from pipelines.train.checkpoint import CheckpointStore, load_model_tensors
    from tests.pipelines.train.harness import tiny_model

    import custom_attention  # isort: skip

    model = custom_attention.attach(tiny_model("gpt2", 0.1), ["gate"])
    load_model_tensors(model, CheckpointStore(uninterrupted / "checkpoints").newest_valid().model_tensors())
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_the_model_folder_of_shares_is_a_whole_one(uninterrupted):
    from safetensors.torch import load_file

    import custom_attention
    from pipelines.models import saving

    tensors = load_file(uninterrupted / "final.safetensors")
    auto = transformers.AutoModelForTokenClassification  # knows the folder, as custom_attention is imported
    for model in (saving.load(uninterrupted / "model"), auto.from_pretrained(uninterrupted / "model")):
        state = model.state_dict()
        for name, tensor in tensors.items():
            assert torch.equal(state[name], tensor), name
        assert len(custom_attention.variant_parameters(model)) > 0
