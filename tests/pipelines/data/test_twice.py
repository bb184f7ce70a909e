"""Rows that stand twice: equal ones of a split count as one, and those of two splits are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.config.load import load_run
from pipelines.data.splits import load_splits
from pipelines.tasks.load import load_task


def splits_of(folder: Path, **rows: list[dict]):
    for split, given in rows.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
    files = [f"data.{split}={folder / split}.jsonl" for split in rows]
    model = ["model.architecture=bert", "model.family=encoder"]
    config = load_run([], ["task=text_classification", *files, *model])
    task = load_task(config)
    return load_splits(config.data, task), task


def row(text: str, **more) -> dict:
    return {"text": text, "label": "yes" if len(text) % 2 else "no", **more}


TRAIN = [row(text) for text in ("a", "bb", "ccc", "dddd")]


def test_a_row_that_stands_several_times_is_one_cluster_and_is_told(tmp_path):
    test = [row(text) for text in ("x", "yy", "x", "zzz", "x", "yy")]
    found, task = splits_of(tmp_path, train=TRAIN, validation=[row("v"), row("ww")], test=test)
    clusters = [task.cluster(one) for one in found.test]
    assert [clusters.index(one) for one in clusters] == [0, 1, 0, 3, 0, 1]
    assert "test: 3 rows of 6 repeat another; equal rows count as one" in found.notes


def test_the_same_text_with_another_label_and_clusters_of_the_data_stay_apart(tmp_path):
    twice = [row("x"), {"text": "x", "label": "no"}]
    found, task = splits_of(tmp_path, train=TRAIN, validation=twice)
    assert len({task.cluster(one) for one in found.validation}) == 2
    named = [row("x", cluster="d1"), row("x", cluster="d1")]
    found, task = splits_of(tmp_path, train=TRAIN, validation=named)
    assert [task.cluster(one) for one in found.validation] == ["d1", "d1"]
    assert not [note for note in found.notes if "repeat" in note]


@pytest.mark.parametrize(
    ("split", "other"), [("validation", "train"), ("test", "train"), ("test", "validation")]
)
def test_rows_of_two_splits_are_told(tmp_path, split, other):
    rows = {"train": TRAIN, "validation": [row("v"), row("ww")], "test": [row("t"), row("uu")]}
    rows[split] = [rows[other][0], *rows[split]]
    found, _ = splits_of(tmp_path, **rows)
    assert f"{split}: 1 of 3 distinct rows are also in {other}" in found.notes


def test_rows_in_another_order_or_under_other_ids_are_the_same_rows(tmp_path):
    dev = [row("v", id="1"), row("ww", id="2"), row("xxx", id="3")]
    one, _ = splits_of(tmp_path, train=TRAIN, validation=dev)
    other, _ = splits_of(
        tmp_path, train=TRAIN, validation=[{**each, "id": each["text"]} for each in dev[::-1]]
    )
    less, _ = splits_of(tmp_path, train=TRAIN, validation=dev[1:])
    assert one.hashes["validation"] != other.hashes["validation"]
    assert one.rows["validation"] == other.rows["validation"] != less.rows["validation"]
