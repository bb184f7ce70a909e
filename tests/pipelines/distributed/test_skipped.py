"""Processes train together where a forward leaves out layers or parameters, and as one process does."""

from __future__ import annotations

import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.distributed.skipped import layerdrop, refuse_skipped_layers
from pipelines.errors import UserError
from tests.pipelines.train import harness
from tests.pipelines.train.test_loss import compare

SIZES = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 29}
SKIPPING = {"max_position_embeddings": 64, "activation_dropout": 0.0}
SHARING = {"embedding_size": 14, "classifier_dropout_prob": 0.0}
MODELS = {  # how it leaves parameters out -> architecture and entries
    "every layer": ("biogpt", {**SIZES, **SKIPPING, "layerdrop": 1.0}),
    "layers at random": ("biogpt", {**SIZES, **SKIPPING, "layerdrop": 0.5}),
    "one layer, used three times": (
        "albert",
        {**SIZES, "embedding_size": 14, "classifier_dropout_prob": 0.0},
    ),
    "a parameter that nothing reads": ("bert", SIZES),
}
DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")


def tiny(kind, dropout=0.0):
    architecture, sizes = MODELS[kind]
    harness.ARCHITECTURES[architecture], harness.DROPOUTS[architecture] = sizes, DROPOUTS
    return harness.tiny_model(architecture, dropout)


def fit(folder, kind, processes):
    tiny(kind)
    original = harness.tiny_model

    def with_more(*arguments):
        model = original(*arguments)
        if kind == "a parameter that nothing reads":
            model.unread = torch.nn.Parameter(torch.ones(3))
        return model

    harness.tiny_model = with_more
    options = {"dropout": 0.0, "processes": processes, "max_steps": 6}
    training = harness.fit(folder, architecture=MODELS[kind][0], **options)
    state = {name: tensor.contiguous() for name, tensor in harness.weights(training).items()}
    save_file(state, folder / f"rank-{os.environ['RANK']}.safetensors")
    if training.accelerator.is_main_process:
        save_file(state, folder / "final.safetensors")


@pytest.mark.parametrize("kind", [kind for kind in MODELS if kind != "layers at random"])
def test_two_processes_train_as_one_does(kind, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert harness.run_ranks(fit, 1, one, kind, 1) == [0]
    assert harness.run_ranks(fit, 2, two, kind, 2) == [0, 0]
    compare(one, two)


def test_processes_that_skip_other_layers_keep_the_same_weights(tmp_path):
    assert harness.run_ranks(fit, 2, tmp_path, "layers at random", 2) == [0, 0]
    first, second = (load_file(tmp_path / f"rank-{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(tensor.isfinite().all() for tensor in first.values())


def test_shards_refuse_layers_that_are_skipped():
    assert layerdrop(tiny("every layer")) == {"layerdrop": 1.0}
    with pytest.raises(
        UserError, match=r"sharding: layers are skipped at random .*set model\.config\.layerdrop=0\.0"
    ):
        refuse_skipped_layers(tiny("layers at random"))
    refuse_skipped_layers(tiny("one layer, used three times"))
