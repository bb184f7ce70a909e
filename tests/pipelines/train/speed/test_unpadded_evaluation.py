"""Evaluation and prediction compute no padding in the layers, and give what they give with it."""

import copy
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

import custom_attention
from custom_attention.modes import quiet
from pipelines.train.evaluate import predict_features
from pipelines.train.speed.unpadding import layers_of, unpadded
from tests.pipelines.actions.test_predict import cell, same

CPU = torch.device("cpu")
ALONE = SimpleNamespace(num_processes=1, process_index=0, device=CPU, autocast=nullcontext)
TASKS = ("ner", "question_answering", "text_classification", "translation", "language_modelling")
CELLS = [f"{task}-{architecture}" for task in TASKS for architecture in ("bert", "gpt2", "t5")]
MAX_TOKENS = 100_000  # all features in one batch, so that most have padding


def attached(name, variants):
    task, plain, _, features, _ = cell(name)
    model = copy.deepcopy(plain)
    return task, custom_attention.attach(model, variants), features


def raws_and_rows(task, model, features, unpadding):
    """The raws, and how many rows the first linear layer (of the encoder, if any) got in its first call."""
    layers = layers_of(model)
    [first, *_] = [
        module
        for module in layers.get("encoder", next(iter(layers.values()))).modules()
        if isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"
    ]
    seen = []
    hook = first.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[:-1].numel()))
    with quiet(model), torch.no_grad():
        raws = predict_features(ALONE, model, task, features, MAX_TOKENS, unpadding)
    hook.remove()
    return raws, seen[0]


@pytest.mark.parametrize("variants", [[], ["gate"]], ids=["stock", "gate"])
@pytest.mark.parametrize("name", CELLS)
def test_predictions_and_losses_are_those_with_padding(name, variants):
    task, model, features = attached(name, variants)
    wanted, rows_with_padding = raws_and_rows(task, model, features, None)
    with unpadded(model, task, features, CPU) as unpadding:
        assert unpadding is not None
        came, rows = raws_and_rows(task, model, features, unpadding)
    assert same(came, wanted)
    assert rows < rows_with_padding
    assert raws_and_rows(task, model, features, None)[1] == rows_with_padding  # nothing is left of it
