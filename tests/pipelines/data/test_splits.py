"""Every source gives the same examples: formats, columns, names, ids, hashes."""

from __future__ import annotations

import csv
import gc
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from pipelines.data.splits import load_splits
from pipelines.errors import UserError
from tests.pipelines.data.tagging import Tagging, config

ROWS = [
    {"tokens": ["EU", "rejects", "Ärger\u2028s"], "ner_tags": ["B-ORG", "O", "O"]},
    {"tokens": ["Peter", "Blackburn"], "ner_tags": ["B-PER", "I-PER"]},
    {"tokens": ['"', "5", ",", "#"], "ner_tags": ["O", "O", "O", "O"]},
]


def as_parquet(path: Path) -> None:
    pyarrow.parquet.write_table(pa.Table.from_pylist(ROWS), path)


def as_json(path: Path) -> None:
    path.write_text(json.dumps(ROWS))


def as_wrapped_json(path: Path) -> None:
    path.write_text(json.dumps({"version": "1.0", "data": ROWS}))


def as_lines(path: Path) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS), encoding="utf-8")


def as_gzip(path: Path) -> None:
    path.write_bytes(gzip.compress("\n".join(json.dumps(row) for row in ROWS).encode()))


def as_csv(path: Path) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["tokens", "ner_tags"])
        writer.writerows([json.dumps(row["tokens"]), json.dumps(row["ner_tags"])] for row in ROWS)


def as_tsv(path: Path) -> None:
    lines = [["tokens", "ner_tags"], *([json.dumps(r["tokens"]), json.dumps(r["ner_tags"])] for r in ROWS)]
    path.write_text("".join("\t".join(line) + "\r\n" for line in lines), encoding="utf-8")


def as_conll(path: Path) -> None:
    sentences = ["".join(f"{w}\t{t}\n" for w, t in zip(row["tokens"], row["ner_tags"])) for row in ROWS]
    path.write_text("# a comment\n" + "\n".join(sentences), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("t.parquet", as_parquet),
        ("t.json", as_json),
        ("wrapped.json", as_wrapped_json),
        ("lines.json", as_lines),
        ("t.jsonl", as_lines),
        ("t.jsonl.gz", as_gzip),
        ("t.csv", as_csv),
        ("t.tsv", as_tsv),
        ("t.conll", as_conll),
    ],
)
def test_every_format_gives_the_same_examples(tmp_path, name, write):
    write(tmp_path / name)
    splits = load_splits(config(train=tmp_path / name), Tagging(), required=["train"])
    assert splits.train == [
        {"tokens": row["tokens"], "tags": row["ner_tags"], "id": str(number)}
        for number, row in enumerate(ROWS, start=1)
    ]
    as_lines(tmp_path / "same.jsonl")
    same = load_splits(config(train=tmp_path / "same.jsonl"), Tagging(), required=["train"])
    assert splits.hashes == same.hashes


def write_lines(path: Path, *rows: dict) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def one(**entries):
    return {"tokens": ["a"], "ner_tags": ["O"], **entries}


def load_train(path: Path, **entries) -> list[dict]:
    return load_splits(config(train=path, **entries), Tagging(), required=["train"]).train


def test_dotted_columns_reach_into_structs_and_lists_of_structs(tmp_path):
    rows = [
        {"doc": {"words": {"en": ["a", "b"]}}, "spans": [{"tag": "O"}, {"tag": "B-X"}], "x.y": "dot"},
        {"doc": {"words": {"en": ["c"]}}, "spans": [{"tag": "O"}], "x.y": "name"},
    ]
    columns = {"tokens": "doc.words.en", "tags": "spans.tag", "topic": "x.y"}
    expected = [(["a", "b"], ["O", "B-X"], "dot"), (["c"], ["O"], "name")]
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    for path in (write_lines(tmp_path / "t.jsonl", *rows), tmp_path / "t.parquet"):
        found = load_train(path, columns=columns)
        assert [(row["tokens"], row["tags"], row["topic"]) for row in found] == expected


def test_ids_come_from_the_data_or_count_rows(tmp_path):
    path = write_lines(tmp_path / "t.jsonl", one(id=7, key="x"), one(id=8, key="y"))
    assert [row["id"] for row in load_train(path)] == ["7", "8"]
    assert [row["id"] for row in load_train(path, columns={"id": "key"})] == ["x", "y"]
    path = write_lines(tmp_path / "t.jsonl", one(), one())
    assert [row["id"] for row in load_train(path)] == ["1", "2"]


def test_ids_count_rows_of_the_source_even_when_some_are_skipped(tmp_path):
    path = write_lines(tmp_path / "t.jsonl", one(), one(ner_tags=[]), one())
    splits = load_splits(config(train=path, on_bad_row="skip"), Tagging(), required=["train"])
    assert [row["id"] for row in splits.train] == ["1", "3"]
    assert splits.skipped == {"train": [(2, "has 1 tokens and 0 tags")]}


def test_a_cluster_column_is_kept_as_text(tmp_path):
    path = write_lines(tmp_path / "t.jsonl", one(doc=3), one(doc=4))
    assert [row["cluster"] for row in load_train(path, columns={"cluster": "doc"})] == ["3", "4"]


def test_class_label_numbers_become_names(tmp_path):
    from datasets import ClassLabel, Dataset, Features, List, Value

    tags = List(ClassLabel(names=["O", "B-PER"]))
    features = Features({"tokens": List(Value("string")), "s": {"t": tags}})
    data = Dataset.from_dict({"tokens": [["a", "b"]], "s": [{"t": [0, 1]}]}, features=features)
    data.to_parquet(tmp_path / "t.parquet")
    assert load_train(tmp_path / "t.parquet", columns={"tags": "s.t"})[0]["tags"] == ["O", "B-PER"]


def test_a_hub_dataset_is_read_by_config_and_split_slice(tmp_path, monkeypatch):
    """A folder laid out like a Hub dataset goes through the same `load_dataset`."""
    from datasets import ClassLabel, Dataset, Features, List, Value

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    features = Features({"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=["O", "B-X"]))})
    home = tmp_path / "hub"
    home.mkdir()
    for split, count in (("train", 20), ("test", 5)):
        rows = {"tokens": [[str(n)] for n in range(count)], "ner_tags": [[n % 2] for n in range(count)]}
        Dataset.from_dict(rows, features=features).to_parquet(home / f"{split}.parquet")
    (home / "README.md").write_text(
        "---\nconfigs:\n- config_name: small\n  data_files:\n"
        "  - {split: train, path: train.parquet}\n  - {split: test, path: test.parquet}\n---\n"
    )
    entries = {"name": str(home), "config": "small"}
    entries |= {"train": "train[:50%]", "validation": "train[50%:60%]"}
    splits = load_splits(config(**entries), Tagging())
    assert [row["tokens"] for row in splits.train] == [[str(n)] for n in range(10)]
    assert [row["tags"] for row in splits.validation] == [["O"], ["B-X"]]
    assert len(splits.test) == 5  # not named, but the dataset has it
    with pytest.raises(UserError, match=r"has no split 'validation', only train, test"):
        load_splits(config(name=str(home), config="small"), Tagging())
    with pytest.raises(UserError, match=r"cannot be loaded: .*large"):
        load_splits(config(**entries | {"config": "large"}), Tagging())


def test_only_the_first_examples_are_used_and_the_notes_say_so(tmp_path):
    path = write_lines(tmp_path / "t.jsonl", *(one(ner_tags=[tag]) for tag in ("O", "O", "B-X")))
    other = write_lines(tmp_path / "v.jsonl", one(ner_tags=["B-X"]))
    task = Tagging()
    splits = load_splits(config(train=path, validation=other, max_train_examples=2), task)
    assert len(splits.train) == 2
    assert "train: the first 2 of 3 examples" in splits.notes
    assert task.known == {"O", "B-X"}  # labels are those of the whole train split


def test_the_hash_changes_with_content_id_and_order(tmp_path):
    def hashed(*rows, **entries):
        path = write_lines(tmp_path / "t.jsonl", *rows)
        return load_splits(config(train=path, **entries), Tagging(), required=["train"]).hashes["train"]

    first, second = one(id=1), one(id=2, tokens=["b"])
    plain = hashed(first, second)
    assert plain == hashed(first | {"unused": 1}, second)
    changed = [
        hashed(second, first),
        hashed(first, second | {"id": 3}),
        hashed(first, second | {"tokens": ["c"]}),
        hashed(first, second | {"ner_tags": ["B-X"]}),
        hashed(first),
        hashed(first, second, max_train_examples=1),
    ]
    assert plain not in changed
    assert changed[-1] == changed[-2]


def test_rows_that_also_stand_in_train_are_noted(tmp_path):
    train = write_lines(tmp_path / "t.jsonl", one(), one(tokens=["b"]))
    validation = write_lines(tmp_path / "v.jsonl", one(tokens=["b"]), one(tokens=["c"]))
    notes = load_splits(config(train=train, validation=validation), Tagging()).notes
    assert notes == ["validation: 1 of 2 distinct rows are also in train"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_byte_order_marks_are_read_and_other_encodings_are_named(tmp_path, encoding):
    path = tmp_path / "t.conll"
    path.write_bytes("Müller’s\tO\r\n".encode(encoding))
    told = {"encoding": encoding} if encoding == "cp1252" else {}
    assert load_train(path, **told)[0]["tokens"] == ["Müller’s"]


def test_gzip_is_known_by_content_and_a_lying_name_is_noted(tmp_path):
    as_gzip(tmp_path / "t.jsonl")
    splits = load_splits(config(train=tmp_path / "t.jsonl"), Tagging(), required=["train"])
    assert len(splits.train) == 3
    assert "gzip-compressed despite its name" in splits.notes[0]
    as_lines(tmp_path / "plain.jsonl.gz")
    assert len(load_train(tmp_path / "plain.jsonl.gz")) == 3


def test_text_cells_of_csv_stay_text(tmp_path):
    (tmp_path / "t.csv").write_text('tokens,ner_tags,topic\n"[""a""]","[""O""]",007\n"[""b""]","[""O""]",\n')
    found = load_train(tmp_path / "t.csv")
    assert [row["topic"] for row in found] == ["007", None]


def test_a_quotation_mark_in_tsv_is_text(tmp_path):
    (tmp_path / "t.tsv").write_text(
        'tokens\tner_tags\ttopic\n["a"]\t["O"]\t"so\n["b"]\t["O"]\t"so" he said\n'
    )
    assert [row["topic"] for row in load_train(tmp_path / "t.tsv")] == ['"so', '"so" he said']


def test_generated_data_has_the_splits_asked_for(tmp_path):
    spec = {"name": "ner", "seed": 3, "train": 5, "validation": 2}
    splits = load_splits(config(generated=spec), Tagging())
    assert (len(splits.train), len(splits.validation), splits.test) == (5, 2, None)
    assert splits.train[0]["id"] == "1"


def test_real_data_loads_as_its_readme_says(shared):
    from pipelines.tasks.ner import Ner

    folder = shared / "data/ner/wnut17"
    paths = {split: folder / f"{split}.parquet" for split in ("train", "validation", "test")}
    task = Ner()
    splits = load_splits(config(**paths), task)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (3394, 1009, 1287)
    assert len(task.state()["labels"]) == 13
    assert splits.skipped == {"train": [], "validation": [], "test": []}


@pytest.mark.parametrize("enabled", [True, False])
def test_rows_are_read_without_searching_them_for_garbage_and_all_is_as_before(tmp_path, enabled):
    (tmp_path / "t.jsonl").write_text('{"tokens": ["Oslo"], "ner_tags": ["O"]}\n' * 3)
    before, collections = gc.isenabled(), []

    class Watched(Tagging):
        def check(self, example):
            collections.append(gc.isenabled())
            return super().check(example)

    try:
        gc.enable() if enabled else gc.disable()
        load_splits(config(train=tmp_path / "t.jsonl"), Watched(), required=["train"])
        with pytest.raises(UserError):
            load_splits(config(train=tmp_path / "no.jsonl"), Watched(), required=["train"])
        assert gc.isenabled() == enabled
    finally:
        gc.enable() if before else gc.disable()
    assert collections == [False] * 3
