"""Every shipped task trains on the data that its configuration names, read from a mirror of the Hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.cli.main import main
from pipelines.config import yaml_source
from tests.conftest import REPOSITORY
from tests.mirror import DATA_SETS, MODELS

CONFIGS = REPOSITORY / "configs"
FILES = sorted(path for path in CONFIGS.rglob("*.yaml") if path.parent.name != "launch")
TASKS = sorted((CONFIGS / "task").glob("*.yaml"))
TINY = {
    "bert": ["hidden_size: 16", "num_hidden_layers: 1", "num_attention_heads: 2", "intermediate_size: 16"],
    "gpt2": ["n_embd: 16", "n_layer: 1", "n_head: 2"],
    "t5": ["d_model: 16", "d_kv: 8", "d_ff: 16", "num_layers: 1", "num_heads: 2"],
    "vit": ["hidden_size: 16", "num_hidden_layers: 1", "num_attention_heads: 2", "image_size: 24"],
    "ast": ["hidden_size: 16", "num_hidden_layers: 1", "num_attention_heads: 2", "intermediate_size: 16"],
    "patchtst": ["num_hidden_layers: 1"],
}
MODEL_OF = {  # task -> a model from scratch
    "ner": "bert", "text_classification": "bert", "question_answering": "bert", "language_modelling": "gpt2",
    "generative_question_answering": "t5", "summarization": "t5", "translation": "t5",
    "image_classification": "vit", "audio_classification": "ast", "forecasting": "patchtst",
}  # fmt: skip


def _name(file: Path) -> str:
    return str(file.relative_to(CONFIGS))


def _value(file: Path, *path: str):
    return yaml_source.read(file).get(path)


@pytest.mark.parametrize("file", TASKS, ids=_name)
def test_a_shipped_task_trains(file, real_mirror, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ATTNLAB_MIRROR", str(real_mirror))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    task = _value(file, "task", "name") or _value(file, "task")
    family = MODEL_OF[task]
    model = ["max_length: 23"] if file.name == "audio-generated.yaml" else []
    settings = [
        f"configs/model/{family}-small-scratch.yaml",
        "model.config={" + ", ".join(TINY[family] + model) + "}",
        "max_steps=2", "batch_size=2", "eval_every_steps=2", "num_epochs=1", "diagnostics_every_steps=null",
        *(f"data.max_{split}_examples=6" for split in ("train", "validation", "test")),
    ]  # fmt: skip
    monkeypatch.chdir(REPOSITORY)
    status = main(["train", str(file), *settings, "--out", str(tmp_path / "run")])
    assert status == 0, capsys.readouterr().err
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["num_steps"] == 2
    named = _value(file, "data", "name")
    if named is None:
        assert manifest["sources"] == {}
        return
    assert manifest["sources"]["data.name"]["from_mirror"]
    identity = json.loads((tmp_path / "run" / "identity.json").read_text())
    assert identity["config"]["data"]["name"] == manifest["sources"]["data.name"]["content"]
    assert set(manifest["scores"]) == {"validation", "test"}


def test_every_name_on_the_hub_has_a_revision_and_a_place_in_the_mirror():
    for file in FILES:
        for section, known in (("data", DATA_SETS), ("model", MODELS)):
            name = _value(file, section, "name")
            if name is not None:
                assert _value(file, section, "revision"), file
                assert name in known or section == "model", file


def test_no_shipped_configuration_or_script_names_files_beside_the_repository():
    for folder, pattern in (("configs", "*.yaml"), ("docs", "*.md"), ("scripts", "*")):
        for path in (REPOSITORY / folder).rglob(pattern):
            if path.is_file() and path.suffix != ".pyc":
                assert "../shared" not in path.read_text(encoding="utf-8"), path


def test_no_two_configurations_are_the_same():
    seen: dict[str, Path] = {}
    for file in FILES:
        text = json.dumps(yaml_source.read(file).value, sort_keys=True)
        assert text not in seen, f"{file} is {seen.get(text)}"
        seen[text] = file
