"""`attnlab fold`: a run of each architecture as a plain checkpoint of the function that was trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
import yaml

import custom_attention
from pipelines.actions import fold
from pipelines.cli.main import main
from pipelines.runs.load import load_run_model
from tests.pipelines.tasks.writing import SIZES

LLAMA = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
RUNS = {  # name: task, architecture, family, sizes, the class that a stranger names
    "bert": ("ner", "bert", "encoder", SIZES["encoder"][1], "AutoModelForTokenClassification"),
    "gpt2": ("language_modelling", "gpt2", "decoder", SIZES["decoder"][1], "AutoModelForCausalLM"),
    "t5": ("translation", "t5", "encoder_decoder", SIZES["encoder_decoder"][1], "AutoModelForSeq2SeqLM"),
    "llama": (
        "language_modelling", "llama", "decoder", LLAMA | {"intermediate_size": 29}, "AutoModelForCausalLM",
    ),
}  # fmt: skip
CONSTANT = [{"temperature": {"per": "head"}}, {"gain": {"per": "channel"}}]


def train(folder: Path, name: str, attention: list, **extra) -> Path:
    task, architecture, family, sizes, _ = RUNS[name]
    short = {"max_len": 48} if task == "language_modelling" else {}
    settings = {
        "task": {"name": task, **short},
        "data": {"generated": {"name": task, "train": 24, "validation": 9}},
        "model": {"architecture": architecture, "family": family, "vocab_size": 320, "config": sizes},
        "attention": attention,
        "variant_learning_rate": 0.1,
        "max_steps": 3,
        "device": "cpu",
        **extra,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(settings))
    assert main(["train", str(path), "--out", str(folder / name)]) == 0
    return folder / name


@pytest.fixture(scope="module", params=RUNS)
def run(request, tmp_path_factory) -> Path:
    return train(tmp_path_factory.mktemp("runs"), request.param, CONSTANT)


def test_a_run_becomes_a_plain_checkpoint_of_what_was_trained(run, tmp_path, capsys):
    plain = tmp_path / "plain"
    assert main(["fold", str(run), str(plain)]) == 0
    said = capsys.readouterr().out
    assert "on 2 batches" in said
    assert "first examples of validation" in said
    assert not list(plain.glob("*.py"))
    assert (
        not {"attnlab", "auto_map", "attn_implementation"}
        & json.loads((plain / "config.json").read_text()).keys()
    )
    finished = load_run_model(run)
    assert min(p.abs().max() for p in custom_attention.variant_parameters(finished.model).values()) > 1e-3
    [batch], _ = fold.real_batch(finished)
    model = getattr(transformers, RUNS[run.name][-1]).from_pretrained(plain).eval()
    assert not custom_attention.is_attached(model)
    with torch.no_grad():
        ours, theirs = finished.model(**batch).logits, model(**batch).logits
    assert (ours - theirs).abs().max() <= 1e-5 * max(1.0, ours.abs().max())
    assert model.config._attn_implementation == "sdpa"
    words = "a plain checkpoint"
    tokenizer = transformers.AutoTokenizer.from_pretrained(plain)
    assert tokenizer(words)["input_ids"] == finished.task.processor(words)["input_ids"]


def test_a_live_variant_is_refused_with_the_reason_and_nothing_is_written(tmp_path, capsys):
    run = train(tmp_path, "bert", ["temperature", "gate"])
    assert main(["fold", str(run), str(tmp_path / "plain")]) == 2
    said = capsys.readouterr().err
    assert "attention: gate: cannot be folded" in said
    assert "its hook output depends on the input" in said
    assert "attnlab push" in said
    assert {path.name for path in tmp_path.iterdir()} == {"bert", "bert.yaml", "cache"}


def test_a_stock_run_is_written_as_it_is(tmp_path, capsys):
    run = train(tmp_path, "bert", [])
    assert main(["fold", str(run), str(tmp_path / "plain")]) == 0
    assert "its attention is stock" in capsys.readouterr().out
    assert transformers.AutoModelForTokenClassification.from_pretrained(tmp_path / "plain").config.id2label


def test_a_folder_that_is_there_stays(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("pipelines.runs.finished.require_finished", lambda folder: None)
    (tmp_path / "plain").mkdir()
    assert main(["fold", "anything", str(tmp_path / "plain")]) == 2
    assert "exists already" in capsys.readouterr().err


def test_without_its_data_a_run_is_folded_and_that_is_said(tmp_path, capsys):
    file = tmp_path / "rows.jsonl"
    row = {"tokens": ["a", "town"], "ner_tags": ["O", "B-LOC"]}
    file.write_text(f"{json.dumps(row)}\n" * 9)
    run = train(
        tmp_path, "bert", ["temperature"], data={"train": str(file), "validation": str(file)}, batch_size=3
    )
    file.unlink()
    assert main(["fold", str(run), str(tmp_path / "plain")]) == 0
    said = capsys.readouterr().out
    assert "made-up batch only" in said
    assert file.name in said  # its path may be shown from the working folder


def test_a_folder_that_reads_back_as_another_function_gets_no_name(tmp_path, monkeypatch, capsys):
    run = train(tmp_path, "bert", ["temperature"])
    monkeypatch.setattr(custom_attention.Fold, "sentence", "")
    kept = transformers.BertForTokenClassification.from_pretrained

    def altered(*arguments, **options):
        model = kept(*arguments, **options)
        model.classifier.bias.data += 0.1
        return model

    monkeypatch.setattr(transformers.BertForTokenClassification, "from_pretrained", altered)
    assert main(["fold", str(run), str(tmp_path / "plain")]) == 1
    assert "outputs of the written model differ" in capsys.readouterr().err
    assert not list(tmp_path.glob("*plain*"))
