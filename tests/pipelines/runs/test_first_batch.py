"""Before the first step a run shows an input, and refuses what could only teach nonsense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pipelines.cli.main import main
from pipelines.data.features import Prepared
from pipelines.data.features import build as build_features
from pipelines.errors import UserError
from pipelines.models.build import build_model
from pipelines.runs.first_batch import require_learnable, shown, unknown_share
from pipelines.shown import printable
from pipelines.tasks.ner import Ner
from pipelines.tasks.text_classification import TextClassification
from pipelines.tasks.translation import Translation
from tests.pipelines.tasks.writing import FAMILIES, SIZES, bound, config, model

ROWS = [
    {
        "id": str(n),
        "text": text,
        "label": label,
        "source": text,
        "target": text,
        "tokens": words,
        "tags": tags,
    }
    for n, (text, label) in enumerate([("one two three", "odd"), ("four six", "even")] * 3)
    for words in [text.split()]
    for tags in [["B-N"] + ["O"] * (len(words) - 1)]
]
MADE = {
    "ner": lambda: Ner(max_len=24),
    "text_classification": lambda: TextClassification(max_len=24),
    "translation": lambda: Translation(max_source_len=24, max_target_len=24),
}


def made(name: str, family: str):
    """A bound task, the features of some rows, and its model."""
    task = bound(MADE[name](), family)
    task.fit({"train": ROWS})
    features = build_features(task, ROWS, "train", None, "")
    if name == "translation":
        return task, Prepared(ROWS, features), model(family)
    built = build_model(config(family), task.head, task.processor, task.model_options())
    return task, Prepared(ROWS, features), built


CELLS = [(name, family) for name in MADE for family in FAMILIES]


@pytest.mark.parametrize(("name", "family"), CELLS)
def test_a_batch_that_can_be_learned_passes(name, family):
    task, train, built = made(name, family)
    require_learnable(task, built, train, train.features[:4])


@pytest.mark.parametrize(("name", "family"), CELLS)
@pytest.mark.parametrize("odd", [10**6, -7])
def test_a_label_outside_the_head_is_refused(monkeypatch, name, family, odd):
    task, train, built = made(name, family)
    collate = task.collate

    def with_odd_label(features):
        batch = collate(features)
        batch["labels"].view(-1)[-1] = odd
        return batch

    monkeypatch.setattr(task, "collate", with_odd_label)
    with pytest.raises(UserError, match=r"has the label .* and the model's head has \d+ outputs; 0 to"):
        require_learnable(task, built, train, train.features[:4])


@pytest.mark.parametrize(("name", "family"), [("ner", "encoder"), ("translation", "decoder")])
def test_labels_that_the_loss_ignores_are_refused(monkeypatch, name, family):
    task, train, built = made(name, family)
    collate = task.collate
    monkeypatch.setattr(
        task, "collate", lambda f: {**(b := collate(f)), "labels": torch.full_like(b["labels"], -100)}
    )
    with pytest.raises(UserError, match="all labels of the first batch are -100"):
        require_learnable(task, built, train, train.features[:4])


def test_a_train_split_without_a_target_is_refused():
    task, train, built = made("ner", "encoder")
    bare = [{name: row[name] for name in ("id", "tokens")} for row in ROWS]
    train = Prepared(bare, build_features(task, bare, "train", None, ""))
    with pytest.raises(UserError, match=r"every target is ignored.*got 6 examples, 15 words"):
        require_learnable(task, built, train, train.features[:4])


@pytest.mark.parametrize("family", FAMILIES)
def test_an_id_without_an_embedding_is_refused(family):
    task, train, built = made("text_classification", family)
    built.resize_token_embeddings(9)
    with pytest.raises(UserError, match="the model has 9 embeddings"):
        require_learnable(task, built, train, train.features[:4])


@pytest.mark.parametrize(
    ("num_unknown", "num_known", "share"), [(0, 4, 0.0), (3, 7, 0.3), (31, 69, 0.31), (5, 0, 1.0)]
)
@pytest.mark.parametrize("family", ["encoder", "encoder_decoder"])
def test_unknown_tokens_are_counted_beside_special_ones(family, num_unknown, num_known, share):
    task = bound(TextClassification(max_len=24), family)
    tokenizer = task.processor
    known = next(i for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids)
    ids = [tokenizer.unk_token_id] * num_unknown + [known] * num_known + [tokenizer.pad_token_id] * 9
    assert unknown_share(task, [{"input_ids": ids}]) == pytest.approx(share)


def test_bytes_have_no_unknown_token():
    task = bound(TextClassification(max_len=24), "decoder")
    assert unknown_share(task, [{"input_ids": [task.processor.eos_token_id] * 5}]) == 0.0


# ---- the commands
def settings(folder: Path, **changes: Any) -> list[str]:
    architecture, sizes = SIZES["encoder"]
    base = {
        "task": {"name": "text_classification", "max_len": 24},
        "data": {"train": str(folder / "train.jsonl"), "validation": str(folder / "dev.jsonl")},
        "model": {"architecture": architecture, "family": "encoder", "vocab_size": 300, "config": sizes},
        "max_steps": 2,
        "batch_size": 4,
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(base | changes))
    return [str(folder / "run.yaml")]


def write(path: Path, texts: list[str], labels: list[str]) -> None:
    rows = [{"text": text, "label": label} for text, label in zip(texts, labels)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path):
    for name in ("train", "dev"):
        write(tmp_path / f"{name}.jsonl", [f"a good lamp {n}" for n in range(12)], ["yes", "yes", "no"] * 4)
    return tmp_path


def test_train_shows_an_input_as_inspect_does_before_it_trains(folder, capsys):
    assert main(["train", *settings(folder), "--out", str(folder / "run")]) == 0
    said = capsys.readouterr().err.splitlines()
    place = next(i for i, line in enumerate(said) if line.startswith("an input of the first step: ["))
    assert "a good lamp" in said[place + 1]
    assert said[place + 2].strip() in ("-> yes", "-> no")


@pytest.mark.parametrize("command", ["train", "inspect"])
def test_a_text_in_a_script_that_the_tokenizer_does_not_know_is_refused(folder, capsys, command):
    assert main(["train", *settings(folder), "--out", str(folder / "run")]) == 0
    write(folder / "train.jsonl", [f"λάμπα {n}" for n in range(12)], ["yes", "yes", "no"] * 4)
    own = {"name": str(folder / "run" / "model"), "family": "encoder"}
    out = ["--out", str(folder / "two")] if command == "train" else []
    capsys.readouterr()
    assert main([command, *settings(folder, model=own), *out]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("model.tokenizer: ")
    assert "% of the tokens of the inputs are unknown to the tokenizer (got [UNK]); at most 30 %" in said


def test_inspect_starts_from_what_train_starts_from(folder, capsys, monkeypatch):
    from pipelines.actions import inspect

    assert main(["train", *settings(folder), "--out", str(folder / "run")]) == 0
    monkeypatch.setattr(inspect.starting_point, "_at_commit", lambda name: str(folder / "run" / "model"))
    named = {"name": "hub:some/lamps", "family": "encoder"}
    assert main(["inspect", *settings(folder, model=named)]) == 0
    assert "examples of train" in capsys.readouterr().out


def test_control_characters_are_shown_as_escapes(folder, capsys):
    texts = ["red \x1b[31m lamp", "bell \x07 lamp", "two\nlines", "turned \u202e lamp"] * 3
    write(folder / "train.jsonl", texts, ["yes", "no"] * 6)
    decoder = {
        "architecture": "gpt2",
        "family": "decoder",
        "vocab_size": 400,
        "config": SIZES["decoder"][1],
    }
    assert main(["inspect", *settings(folder, model=decoder), "--examples", "4"]) == 0
    said = capsys.readouterr().out
    for escape in (r"\x1b[31m", r"\x07", r"two\nlines", r"\u202e"):
        assert escape in said
    assert all(character.isprintable() or character == "\n" for character in said)


def test_what_a_terminal_obeys_is_escaped_and_all_else_kept():
    assert printable("a\tb\x9b\u2028é👩🏽‍🚀 \u00a0", keep="") == "a\\tb\\x9b\\u2028é👩🏽‍🚀 \u00a0"


def test_an_input_is_shown_line_by_line():
    task, train, _ = made("text_classification", "encoder")
    head, text, label = shown(task, {**train.features[0], "example_id": "7\x1b"})
    assert head.startswith("[7\\x1b] ")
    assert "one two three" in text
    assert label.strip() == "-> odd"
