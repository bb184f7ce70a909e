"""Every model file from scratch trains on every task by YAML alone, with a variant at every site."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from pipelines.cli.main import main

FOLDER = Path(__file__).parents[3] / "configs" / "model"
# What reads no text: model file -> its task, the options and the sizes of its generated corpus.
OTHER_INPUTS = {
    "vit": ("image_classification", {}, {"image_size": 24}),
    "ast": ("audio_classification", {"seconds": 0.25}, {"max_length": 23}),
    "wav2vec2": ("audio_classification", {"seconds": 0.25}, {}),
    "patchtst": ("forecasting", {"channels": ["load", "heat"], "context_len": 32, "horizon": 4}, {}),
}
MODELS = sorted(
    file for file in FOLDER.glob("*-small-scratch.yaml") if file.name.partition("-")[0] not in OTHER_INPUTS
)
TASKS = {
    "ner": {"max_len": 24, "overlap": 4},
    "question_answering": {"max_len": 48, "overlap": 8},
    "text_classification": {"max_len": 24},
    "summarization": {"max_source_len": 40, "max_target_len": 6},
    "translation": {"max_source_len": 24, "max_target_len": 6},
    "language_modelling": {"max_len": 24, "overlap": 4},
    "generative_question_answering": {"max_source_len": 40, "max_target_len": 4},
}
WRITING = ("summarization", "translation", "generative_question_answering")
# What transformers has no class for, or no cross-attention.
MISSING = {
    **{
        (model, task): "has no form that could write text"
        for model in ("distilbert", "modernbert")
        for task in WRITING
    },
    ("bart", "ner"): "transformers has no class for token classification with this architecture",
}


def _of(file: Path) -> str:
    return file.name.partition("-")[0]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("file", MODELS, ids=_of)
def test_a_model_file_learns_a_task_with_a_variant_or_says_why_not(file, task, tmp_path, capsys):
    status = train(tmp_path, file, {"name": task, **TASKS[task]})
    said = capsys.readouterr().err
    if (_of(file), task) in MISSING:
        assert status == 2
        assert MISSING[_of(file), task] in said
        assert f"(got {_of(file)})" in said
        return
    assert status == 0, said
    check(tmp_path)


@pytest.mark.parametrize("model", OTHER_INPUTS)
def test_a_model_of_other_inputs_learns_with_a_variant(model, tmp_path, capsys):
    task, options, sizes = OTHER_INPUTS[model]
    file = FOLDER / f"{model}-small-scratch.yaml"
    num_rows = 9 + options.get("context_len", 0)
    status = train(tmp_path, file, {"name": task, **options}, num_rows, model={"config": sizes})
    assert status == 0, capsys.readouterr().err
    check(tmp_path)


@pytest.mark.parametrize(
    ("model", "corpus", "settings", "metric", "trivial"),
    [  # what attnlab inspect says of the most frequent label, or of the mean of train (the last value: 1.74)
        ("vit", "image", ["config.image_size=24", "config.num_hidden_layers=2"], "accuracy", 27.0),
        ("ast", "audio", ["config.max_length=23", "config.num_hidden_layers=2"], "accuracy", 32.5),
        ("patchtst", "forecasting", [], "mse", 0.99),
    ],
)
def test_a_model_of_other_inputs_beats_what_needs_no_model(
    model, corpus, settings, metric, trivial, tmp_path
):
    """When this was written: 92.5, 75.5 and 0.76."""
    files = [FOLDER.parent / "task" / f"{corpus}-generated.yaml", FOLDER / f"{model}-small-scratch.yaml"]
    steps = {"vit": 25, "ast": 52, "patchtst": 100}[model]
    overrides = [f"model.{setting}" for setting in settings]
    overrides += [f"max_steps={steps}", "eval_every_steps=1000", "device=cpu"]
    overrides += ["data.generated.test=0", "diagnostics_every_steps=null"]
    assert main(["train", *map(str, files), *overrides, "--out", str(tmp_path / "run")]) == 0
    score = json.loads((tmp_path / "run" / "manifest.json").read_text())["scores"]["validation"][metric]
    assert score < 0.95 * trivial if metric == "mse" else score > 1.2 * trivial


@pytest.mark.parametrize(
    ("model", "task", "said"),
    [
        ("bert", "image_classification", "reads no image, which the task needs (got bert)"),
        ("bert", "audio_classification", "reads no audio, which the task needs (got bert)"),
        ("patchtst", "image_classification", "reads no image, which the task needs (got patchtst)"),
        ("bert", "forecasting", "transformers has no class for forecasting with this architecture"),
        ("vit", "ner", "transformers has no class for token classification with this architecture"),
    ],
)
def test_a_model_of_other_inputs_is_refused(model, task, said, tmp_path, capsys):
    options = OTHER_INPUTS["patchtst"][1] if task == "forecasting" else {}
    status = train(tmp_path, FOLDER / f"{model}-small-scratch.yaml", {"name": task, **options}, 41)
    assert status == 2
    assert said in capsys.readouterr().err


def train(folder: Path, file: Path, task: dict, num_rows: int = 8, **settings) -> int:
    """One step from the command line into `folder`/run."""
    torch.set_num_threads(1)
    corpus = task["name"].removeprefix("generative_")
    settings |= {
        "task": task,
        "data": {"generated": {"name": corpus, "train": num_rows, "validation": num_rows - 5}},
        "attention": ["gate"],
        "max_steps": 1,
        "batch_size": 8,
        "device": "cpu",
        "diagnostics_every_steps": None,
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(settings))
    return main(["train", str(file), str(folder / "run.yaml"), "--out", str(folder / "run")])


def check(folder: Path) -> None:
    """The run that `train` wrote was proven and has scores."""
    manifest = json.loads((folder / "run" / "manifest.json").read_text())
    assert manifest["proof"]["passed"]
    assert manifest["proof"]["reached"] == manifest["proof"]["expected"] > 0
    assert manifest["num_variant_parameters"] > 0
    assert all(value == value for value in manifest["scores"]["validation"].values())
