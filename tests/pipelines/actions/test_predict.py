"""What is predicted of an example depends on it alone: not on batches, padding, its side, or processes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from functools import cache
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.config.load import run_from_dict
from pipelines.data.features import Features
from pipelines.data.features import build as build_features
from pipelines.data.splits import load_splits
from pipelines.models.build import build_model
from pipelines.models.processor import load_processor
from pipelines.tasks.base import Task
from pipelines.tasks.load import load_task
from pipelines.train import evaluate
from pipelines.train.evaluate import by_example, predict_features
from tests.pipelines.tasks.writing import SIZES as TEXT_SIZES

TIE = 1e-5  # scores closer than this may change places
ENCODER = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 29}
TEXT_TASKS: Mapping[str, dict[str, Any]] = {
    "ner": {"max_len": 18, "overlap": 4},
    "question_answering": {"max_len": 40, "overlap": 8},
    "text_classification": {"max_len": 24},
    "summarization": {"max_source_len": 40, "max_target_len": 6},
    "translation": {"max_source_len": 24, "max_target_len": 6, "num_beams": 2},
    "generative_question_answering": {"max_source_len": 40, "max_target_len": 4},
    "language_modelling": {"max_len": 24, "overlap": 4},
}
CELLS: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    **{
        f"{task}-{architecture}": (
            {"name": task, **options},
            {"architecture": architecture, "family": family, "vocab_size": 400, "config": sizes},
        )
        for task, options in TEXT_TASKS.items()
        for family, (architecture, sizes) in TEXT_SIZES.items()
    },
    "image_classification-vit": (
        {"name": "image_classification"},
        {
            "architecture": "vit",
            "family": "encoder",
            "config": {"image_size": 24, "patch_size": 8, "num_channels": 1, **ENCODER},
        },
    ),
    "audio_classification-ast": (
        {"name": "audio_classification", "seconds": 0.25},
        {
            "architecture": "audio-spectrogram-transformer",
            "family": "encoder",
            "config": {"max_length": 23, "num_mel_bins": 32, **ENCODER},
        },
    ),
    "forecasting-patchtst": (
        {"name": "forecasting", "channels": ["load", "heat"], "context_len": 12, "horizon": 5},
        {
            "architecture": "patchtst",
            "family": "encoder",
            "config": {
                "d_model": 12,
                "num_attention_heads": 3,
                "num_hidden_layers": 2,
                "ffn_dim": 13,
                "patch_length": 4,
                "patch_stride": 2,
                "norm_type": "layernorm",
            },
        },
    ),
}


class Cell(NamedTuple):
    """A task and a model with what is to be predicted, and each feature's raw when it is predicted alone."""

    task: Task
    model: torch.nn.Module
    examples: list
    features: Features
    alone: list


@cache
def cell(name: str) -> Cell:
    task_settings, model_settings = CELLS[name]
    corpus = task_settings["name"].removeprefix("generative_")
    config = run_from_dict(
        {
            "task": task_settings,
            "data": {"generated": {"name": corpus, "train": 40, "validation": 28}},
            "model": model_settings,
        }
    )
    task = load_task(config)
    splits = load_splits(config.data, task)
    task.bind(load_processor(config, task, splits.train), config.model.family)
    features = build_features(task, splits.validation[:12], "validation", None, "")
    model = build_model(config, task.head, task.processor, task.model_options()).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():  # weights so large that every token of the context matters
        for parameter in model.parameters():
            if parameter.dim() > 1:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(1.2 * noise * parameter.shape[-1] ** -0.5)
        alone = [task.predict(model, task.collate([feature]))[0] for feature in features]
    return Cell(task, model, splits.validation[:12], features, alone)


def same(one: Any, other: Any) -> bool:
    """Whether two results are equal, numbers within `TIE` of their size."""
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray):
        return one.shape == other.shape and all(map(same, one.ravel().tolist(), other.ravel().tolist()))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= TIE * max(1.0, abs(one))
    return one == other


class Padded:
    """A task whose batches all hold its longest feature too, so that every other one is padded to it."""

    def __init__(self, task: Task, features: Features) -> None:
        self.task, self.longest = task, max(features, key=task.feature_len)
        self.evaluation_overhead = task.evaluation_overhead

    def collate(self, features):
        return self.task.collate([*features, self.longest])

    def predict(self, model, batch):
        return self.task.predict(model, batch)[:-1]


def on_ranks(num_ranks: int, model, task, features, max_tokens: int) -> list:
    """What each of several ranks says, one after the other in this process; they must agree."""
    said = []

    class Gathering(Exception):
        pass

    def note(mine):
        said.append(mine)
        raise Gathering

    def rank(index: int):
        accelerator = SimpleNamespace(
            num_processes=num_ranks,
            process_index=index,
            device=torch.device("cpu"),
            autocast=nullcontext,
        )
        return predict_features(accelerator, model, task, features, max_tokens, None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "gather_object", note)
        for index in range(num_ranks if num_ranks > 1 else 0):
            with pytest.raises(Gathering):
                rank(index)
        patch.setattr(evaluate, "gather_object", lambda _: [pair for mine in said for pair in mine])
        return rank(0)


@pytest.mark.parametrize("name", CELLS)
@settings(max_examples=4)
@given(max_tokens=st.integers(1, 400), num_ranks=st.integers(1, 5), most_padding=st.booleans())
def test_batches_processes_and_padding_change_no_prediction(name, max_tokens, num_ranks, most_padding):
    task, model, examples, features, alone = cell(name)
    asked = Padded(task, features) if most_padding else task
    with torch.no_grad():
        raws = on_ranks(num_ranks, model, asked, features, max_tokens)
    assert same(raws, alone)
    together, apart = (
        [task.assemble(example, group) for example, group in zip(examples, by_example(examples, features, r))]
        for r in (raws, alone)
    )
    assert len(together) == len(examples)
    if task.reads != "series":  # whose answers are numbers, compared above
        assert same(together, apart)


def test_more_processes_than_inputs_change_no_prediction():
    task, model, _, features, alone = cell("ner-bert")
    with torch.no_grad():
        assert same(on_ranks(len(features) + 3, model, task, features, 100), alone)


@pytest.mark.parametrize("name", CELLS)
def test_the_predictions_compared_are_not_all_alike(name):
    """Or nothing would be compared."""
    raws = cell(name).alone
    assert not all(same(raws[0], raw) for raw in raws)


@pytest.mark.parametrize(
    ("architecture", "sizes"),
    [
        TEXT_SIZES["decoder"],
        (
            "llama",
            {
                "max_position_embeddings": 96,
                "num_key_value_heads": 1,
                **ENCODER,
                "hidden_size": 24,
            },
        ),
    ],
    ids=["gpt2", "llama"],
)
def test_a_decoder_goes_on_from_left_padding_as_it_reads_right_padding(architecture, sizes):
    """Prompts are padded left to write and right to learn; positions come from the mask."""
    task, _, _, features, _ = cell("translation-gpt2")
    settings = {
        "task": "translation",
        "data": {"generated": {"name": "translation", "train": 1, "validation": 1}},
        "model": {"architecture": architecture, "family": "decoder", "config": sizes},
    }
    model = build_model(run_from_dict(settings), task.head, task.processor, {}).eval()
    prompts = [{**feature, "labels": [], "num_targets": 0} for feature in features]
    assert len({len(prompt["input_ids"]) for prompt in prompts}) > 2
    batch = task.collate(prompts)
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        last = batch["attention_mask"].sum(dim=1) - 1
        read = logits[torch.arange(len(prompts)), last]
        written = task._form.generate(model, batch, {"do_sample": False, "max_new_tokens": 1})
    end = task._encoder.end
    for scores, tokens in zip(read, written):
        token = tokens[0] if tokens else end
        assert scores.max() - scores[token] <= TIE


def test_a_result_that_is_lost_or_comes_twice_stops_the_run():
    task, model, examples, features, alone = cell("ner-bert")

    class Losing(Padded):
        def predict(self, model, batch):
            return self.task.predict(model, batch)[:-2]

    with torch.no_grad(), pytest.raises(RuntimeError, match=r"features gave \d+ results"):
        on_ranks(1, model, Losing(task, features), features, 100)
    with pytest.raises(RuntimeError, match="without a feature or with one id twice"):
        by_example([*examples, {**examples[0], "id": "other"}], features, alone)
    with pytest.raises(RuntimeError, match="without a feature or with one id twice"):
        by_example([*examples[:-1], examples[0]], features, alone)
