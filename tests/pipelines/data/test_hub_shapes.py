"""The files for data sets of the Hub read their columns, names, configurations and parts of splits."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from pipelines.config.load import load_run, run_from_dict
from pipelines.data import readers
from pipelines.data.splits import load_splits
from pipelines.hub.data_set import open_data_set
from pipelines.tasks.load import load_task

CONFIGS = Path(__file__).parents[3] / "configs" / "task"
TAGS = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]
TEXT, NUMBER = Value("string"), Value("int32")
# file -> configuration of the data set, its columns, one of its rows, and the example it must become
SHAPES = {
    "ner-conll2003": (
        "default",
        {
            "id": TEXT,
            "tokens": List(TEXT),
            "pos_tags": List(ClassLabel(names=["NNP", "VBZ"])),
            "ner_tags": List(ClassLabel(names=TAGS)),
        },
        {"id": "0", "tokens": ["EU", "rejects"], "pos_tags": [0, 1], "ner_tags": [3, 0]},
        {"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]},
    ),
    "qa-squad": (
        "plain_text",
        {
            "id": TEXT,
            "title": TEXT,
            "context": TEXT,
            "question": TEXT,
            "answers": {"text": List(TEXT), "answer_start": List(NUMBER)},
        },
        {
            "id": "0",
            "title": "Oslo",
            "context": "Ann ran in Oslo .",
            "question": "where ?",
            "answers": {"text": ["Oslo", "in Oslo"], "answer_start": [11, 8]},
        },
        {"answers": ["Oslo", "in Oslo"], "answer_starts": [11, 8], "title": "Oslo", "question": "where ?"},
    ),
    "summarization-cnn": (
        "3.0.0",
        {"article": TEXT, "highlights": TEXT, "id": TEXT},
        {"article": "Long news.", "highlights": "News .\nLong .", "id": "0"},
        {"source": "Long news.", "target": "News .\nLong ."},
    ),
    "translation-wmt16": (
        "de-en",
        {"translation": {"de": TEXT, "en": TEXT}},
        {"translation": {"de": "Guten Tag", "en": "Good day"}},
        {"source": "Guten Tag", "target": "Good day"},
    ),
    "summarization-scitldr": (
        None,
        {"source": List(TEXT), "paper_id": TEXT, "target": List(TEXT)},
        {"source": ["We look.", "We find."], "paper_id": "x", "target": ["Found.", "It is found."]},
        {"source": "We look. We find.", "target": ["Found.", "It is found."]},
    ),
    "summarization-dialogsum": (
        "default",
        {"id": TEXT, "dialogue": TEXT, "summary": TEXT, "topic": TEXT},
        {"id": "0", "dialogue": "A: Hi.\nB: Bye.", "summary": "They meet.", "topic": "greeting"},
        {"source": "A: Hi.\nB: Bye.", "target": "They meet.", "cluster": "A: Hi.\nB: Bye."},
    ),
    "lm-wikitext2": ("wikitext-2-raw-v1", {"text": TEXT}, {"text": " A line . \n"}, {"text": " A line . \n"}),
    "glue-sst2": (
        "sst2",
        {"sentence": TEXT, "label": ClassLabel(names=["negative", "positive"]), "idx": NUMBER},
        {"sentence": "a joy", "label": 1, "idx": 0},
        {"text": "a joy", "label": "positive"},
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_file_for_the_hub_reads_a_data_set_of_that_shape(name, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    configuration, columns, row, expected = SHAPES[name]
    home = tmp_path / "hub"
    home.mkdir()
    rows = [row | ({"id": str(n)} if "id" in row else {}) for n in range(100)]
    if name == "glue-sst2":  # a classifier wants two labels
        rows[0] = row | {"label": 0}
    config = load_run([str(CONFIGS / f"{name}.yaml")], ["model.architecture=bert", "model.family=encoder"])
    place = home / (config.data.folder or "")
    place.mkdir(exist_ok=True)
    for split in ("train", "validation", "test"):
        Dataset.from_list(rows, features=Features(columns)).to_parquet(place / f"{split}.parquet")
    files = "".join(f"  - {{split: {s}, path: {s}.parquet}}\n" for s in ("train", "validation", "test"))
    front = f"---\nconfigs:\n- config_name: {configuration}\n  data_files:\n{files}---\n"
    if configuration is not None:  # else the card lists none, and the configuration names the folder
        (home / "README.md").write_text(front)
    data = config.data.model_copy(update={"name": str(home), "revision": None})
    splits = load_splits(data, load_task(config))
    asked = config.data.train or "train"
    part = asked.partition("[:")[2].removesuffix("%]")
    assert len(splits.train) == int(part or 100)
    example = splits.train[-1]
    assert {key: example[key] for key in expected} == expected
    assert splits.validation


@pytest.mark.parametrize("names", [{}, {"train": "train[:3]", "test": "test"}], ids=["found", "named"])
def test_a_data_set_is_opened_once_for_all_of_its_splits(names, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    for split in ("train", "validation", "test"):
        rows = Dataset.from_dict({"text": [f"{split} {n}" for n in range(4)], "label": ["a", "b"] * 2})
        rows.to_parquet(tmp_path / "hub" / f"{split}.parquet")
    opened = []
    monkeypatch.setattr(
        readers, "open_data_set", lambda *asked: opened.append(asked) or open_data_set(*asked)
    )
    settings = {"task": "text_classification", "model": {"architecture": "bert", "family": "encoder"}}
    config = run_from_dict({**settings, "data": {"name": str(tmp_path / "hub"), **names}})
    splits = load_splits(config.data, load_task(config))
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [3 if names else 4, 4, 4]
    assert splits.test[0]["text"] == "test 0"
    assert len(opened) == 1
