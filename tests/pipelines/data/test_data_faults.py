"""Bad data stops before any training, with one sentence that names the place and what to do."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml

from pipelines.cli.main import main
from pipelines.data.splits import load_splits
from pipelines.errors import UserError
from tests.pipelines.data.tagging import Tagging, config

GOOD = {"tokens": ["a", "b"], "ner_tags": ["O", "B-X"]}


def parquet(rows: list[dict], schema: pa.Schema | None = None) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows, schema=schema), sink)
    return sink.getvalue()


def lines(*rows) -> bytes:
    return "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows).encode()


WHOLE = parquet([GOOD] * 50)
NO_ROWS = pa.schema([("tokens", pa.list_(pa.string())), ("ner_tags", pa.list_(pa.string()))])

FAULTS = {
    # file name, content, settings, what the sentence must say
    "empty file": ("t.jsonl", b"", {}, ["t.jsonl: the file is empty (0 bytes)"]),
    "no rows": ("t.parquet", parquet([], NO_ROWS), {}, ["t.parquet: the train split has no rows"]),
    "header only": ("t.csv", b"tokens,ner_tags\n", {}, ["t.csv: the train split has no rows"]),
    "only blanks": ("t.conll", b"\n \n\n", {}, ["t.conll: the train split has no rows"]),
    "empty list": ("t.json", b"[]", {}, ["t.json: the train split has no rows"]),
    "unknown name": (
        "t.dat",
        b"x",
        {},
        ["t.dat: the format is not known from the name", "set data.format to parquet, json"],
    ),
    "zip": ("t.jsonl", b"PK\x03\x04abc", {}, ["t.jsonl: is a zip archive: unpack it"]),
    "lfs": (
        "t.csv",
        b"version https://git-lfs.github.com/spec/v1\n",
        {},
        ["Git LFS pointer", "git lfs pull"],
    ),
    "cut parquet": (
        "t.parquet",
        WHOLE[:-20],
        {},
        ["t.parquet: is not a whole parquet file", "fetch it again"],
    ),
    "parquet name": ("t.parquet", b'{"a": 1}', {}, ["t.parquet: is not a parquet file", "set data.format"]),
    "parquet inside": ("t.jsonl", WHOLE, {}, ["t.jsonl: is a parquet file", "data.format: parquet"]),
    "cut gzip": (
        "t.jsonl.gz",
        gzip.compress(lines(GOOD) * 99)[:-12],
        {},
        ["gzip data is damaged or cut off"],
    ),
    "cut json": (
        "t.json",
        b'[{"tokens": ["a"',
        {},
        ["t.json: is not valid JSON", "line 1 column 17", "cut off"],
    ),
    "json number": ("t.json", b"3", {}, ["t.json: holds a number", "a list of objects"]),
    "cut line": (
        "t.jsonl",
        lines(GOOD, "", '{"tokens": ["a"'),
        {},
        ["t.jsonl, row 2 (line 3): is not valid JSON", "at column 16", "on_bad_row: skip"],
    ),
    "deep json": ("t.jsonl", lines(GOOD, "[" * 100_000), {}, ["row 2: is not valid JSON"]),
    "list row": ("t.jsonl", lines(GOOD, [1]), {}, ["row 2: is a list, not an object with columns"]),
    "half character": (
        "t.jsonl",
        lines(GOOD, r'{"tokens": ["\ud83d"]}'),
        {},
        ["row 2: has half a character (\\ud83d)"],
    ),
    "short csv row": (
        "t.csv",
        b'tokens,ner_tags\n"[""a""]","[""O""]"\n"[""b""]"\n',
        {},
        ["t.csv, row 2 (line 3): has 1 cells under 2 column names"],
    ),
    "open quote": (
        "t.csv",
        b'tokens,ner_tags\na,O\n"b,O\nc,O\n',
        {},
        ["t.csv, line 3: cannot be read", "quotation mark"],
    ),
    "column twice": (
        "t.csv",
        b"tokens,tokens\na,b\n",
        {},
        ["the first line repeats a column name (got tokens)"],
    ),
    "cut conll": (
        "t.conll",
        b"a\tO\nb\tO\n\nc\tO\nd\n",
        {},
        ["t.conll, row 2 (line 4): has 1 column on line 5"],
    ),
    "cp1252": (
        "t.csv",
        b"tokens,ner_tags\nM\xfcller\x92s,O\n",
        {},
        ["t.csv, line 2: is not UTF-8", "0xfc", "Müller’s"],
    ),
    "wrong encoding": (
        "t.conll",
        "ü\tO".encode(),
        {"encoding": "ascii"},
        ["line 1: is not ascii", "as utf-8 it would read 'ü"],
    ),
    "no encoding": (
        "t.conll",
        b"a\tO",
        {"encoding": "utf8000"},
        ["data.encoding: there is no such encoding"],
    ),
    "utf-16, no mark": (
        "t.conll",
        "a\tO".encode("utf-16-le"),
        {},
        ["is not text: it has zero bytes", "utf-16-le"],
    ),
    "column": (
        "t.jsonl",
        lines({"token": ["a"], "ner_tags": ["O"]}),
        {},
        [
            "t.jsonl: has no column 'tokens', which the task takes as 'tokens' (the words)",
            "did you mean 'token'? columns there: token, ner_tags; ",
            "name the right one as data.columns.tokens.",
        ],
    ),
    "told column": (
        "t.jsonl",
        lines(GOOD),
        {"columns": {"topic": "theme"}},
        ["has no column 'theme'", "as 'topic'"],
    ),
    "unknown column": (
        "t.jsonl",
        lines(GOOD),
        {"columns": {"tag": "x"}},
        [
            "data.columns.tag: the task has no such column",
            "did you mean 'tags'?",
            "tokens, tags, topic, id, cluster",
        ],
    ),
    "field": (
        "t.jsonl",
        lines(GOOD | {"doc": {"text": 1, "id": 2}}),
        {"columns": {"topic": "doc.title"}},
        ["column 'doc' has no field 'title' (it has text, id)"],
    ),
    "no struct": (
        "t.jsonl",
        lines(GOOD),
        {"columns": {"topic": "tokens.x"}},
        ["column 'tokens' has no fields"],
    ),
    "missing value": (
        "t.jsonl",
        lines(GOOD, {"tokens": ["a"]}),
        {},
        ["row 2: has no 'ner_tags' (missing or null)"],
    ),
    "null": (
        "t.parquet",
        parquet([GOOD, GOOD | {"tokens": None}]),
        {},
        ["t.parquet, row 2: has no 'tokens'"],
    ),
    "id twice": (
        "t.jsonl",
        lines(GOOD | {"id": 1}, GOOD | {"id": "1"}),
        {},
        ["row 2: has the id '1' of row 1"],
    ),
    "id null": ("t.jsonl", lines(GOOD | {"id": 1}, GOOD), {}, ["row 2: has no 'id'"]),
    "id list": (
        "t.jsonl",
        lines(GOOD | {"id": [1]}),
        {},
        ["row 1: has the id [1], which is neither text nor a number"],
    ),
    "rows that are no objects": (
        "t.json",
        b'["a", "b"]',
        {},
        ["t.json, row 1 and 1 more row: is text, not an object with columns"],
    ),
    "no field": (
        "t.jsonl",
        lines({"x": {"tokens": ["a"]}, "ner_tags": ["O"]}, {"x": 3, "ner_tags": ["O"]}),
        {"columns": {"tokens": "x.tokens"}},
        ["row 2: has no 'x.tokens', because its 'x' is 3, which has no fields"],
    ),
    "check": (
        "t.jsonl",
        lines(GOOD, GOOD | {"ner_tags": []}),
        {},
        ["row 2: has 2 tokens and 0 tags; repair the data, or"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_said_in_one_sentence_with_its_place(tmp_path, fault):
    name, content, settings, parts = FAULTS[fault]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_splits(config(train=tmp_path / name, **settings), Tagging(), required=["train"])
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert all(part in sentence for part in parts), sentence


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_ends_a_command_with_status_2_and_no_traceback(tmp_path, capsys, fault):
    name, content, settings, _ = FAULTS[fault]
    (tmp_path / name).write_bytes(content)
    run = {
        "task": "ner",
        "data": {"train": str(tmp_path / name), "validation": str(tmp_path / name), **settings},
        "model": {"architecture": "bert", "family": "encoder"},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    assert main(["train", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert name in said or "run.yaml:" in said or "data.encoding" in said
    assert not (tmp_path / "run" / "run.yaml").exists()


def load(tmp_path: Path, train: list, validation: list, task: Tagging | None = None, **settings):
    (tmp_path / "t.jsonl").write_bytes(lines(*train))
    (tmp_path / "v.jsonl").write_bytes(lines(*validation))
    entries = {"train": tmp_path / "t.jsonl", "validation": tmp_path / "v.jsonl"}
    return load_splits(config(**entries, **settings), task or Tagging())


def test_a_missing_file_names_its_neighbours(tmp_path):
    (tmp_path / "train.jsonl").write_bytes(lines(GOOD))
    with pytest.raises(UserError, match=r"trian\.jsonl: there is no such file; its folder has train\.jsonl"):
        load_splits(config(train=tmp_path / "trian.jsonl"), Tagging(), required=["train"])
    with pytest.raises(UserError, match=r"its folder does not exist"):
        load_splits(config(train=tmp_path / "no/t.jsonl"), Tagging(), required=["train"])
    with pytest.raises(UserError, match=r"is a folder; name a file in it, which has train\.jsonl"):
        load_splits(config(train=tmp_path), Tagging(), required=["train"])


def test_a_split_the_run_needs_is_asked_for(tmp_path):
    (tmp_path / "t.jsonl").write_bytes(lines(GOOD))
    with pytest.raises(UserError, match=r"data\.validation: there is no such split; give a file as"):
        load_splits(config(train=tmp_path / "t.jsonl"), Tagging())


def test_text_that_is_not_utf8_inside_parquet_is_said(tmp_path):
    bad = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"]).buffers())
    pyarrow.parquet.write_table(pa.table({"tokens": bad, "ner_tags": ["O"]}), tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"t\.parquet: is not a whole parquet file \(.*UTF8"):
        load_splits(config(train=tmp_path / "t.parquet"), Tagging(), required=["train"])


def test_a_label_that_train_never_had_stops_at_its_row(tmp_path):
    with pytest.raises(UserError, match=r"v\.jsonl, row 2: has the tag 'B-Y', which no row of train has"):
        load(tmp_path, [GOOD], [GOOD, {"tokens": ["a"], "ner_tags": ["B-Y"]}])


def test_several_faults_are_told_at_once_and_the_rest_is_counted(tmp_path):
    bad = [{"tokens": ["a"] * n, "ner_tags": []} for n in range(1, 16)]
    with pytest.raises(UserError) as caught:
        load(tmp_path, [GOOD, *bad], [GOOD, {"tokens": None}])
    told = str(caught.value).split("\n")
    assert len(told) == 11
    assert "t.jsonl, row 2: has 1 tokens and 0 tags" in told[0]
    assert told[-1] == "data: and 6 more errors like these."


def test_equal_faults_are_told_once_with_their_number(tmp_path):
    with pytest.raises(UserError) as caught:
        load(tmp_path, [GOOD] + [{"tokens": ["a"], "ner_tags": []}] * 1500, [GOOD, {"tokens": None}])
    assert "t.jsonl, row 2 and 1,499 more rows: has 1 tokens and 0 tags" in str(caught.value)
    assert "v.jsonl, row 2: has no 'tokens'" in str(caught.value)


def test_skipping_counts_what_it_leaves_out(tmp_path):
    train = [GOOD, '{"tokens"', GOOD | {"ner_tags": ["O"]}, GOOD]
    splits = load(tmp_path, train, [GOOD, GOOD | {"ner_tags": ["O", "B-Y"]}], on_bad_row="skip")
    assert (len(splits.train), len(splits.validation)) == (2, 1)
    assert [row for row, _ in splits.skipped["train"]] == [2, 3]
    assert splits.skipped["validation"] == [(2, "has the tag 'B-Y', which no row of train has")]


def test_skipping_every_row_is_an_error(tmp_path):
    with pytest.raises(
        UserError, match=r"no row of the validation split can be used; row 1 has 2 tokens and 1"
    ):
        load(tmp_path, [GOOD], [GOOD | {"ner_tags": ["O"]}], on_bad_row="skip")


@pytest.mark.parametrize(("number", "said"), [(-1, "the label -1"), (2, "the label 2, and only 0 to 1 have")])
def test_class_numbers_without_a_name_are_refused(tmp_path, number, said):
    from datasets import ClassLabel, Dataset, Features, List, Value

    features = Features({"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=["O", "B-X"]))})
    table = pa.table({"tokens": [["a"]], "ner_tags": [[number]]})
    table = table.cast(features.arrow_schema).replace_schema_metadata(features.arrow_schema.metadata)
    assert Dataset(table).features == features
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(UserError, match=f"row 1: has {said}"):
        load_splits(config(train=tmp_path / "t.parquet"), Tagging(), required=["train"])


def test_without_a_network_a_hub_dataset_says_what_else_there_is():
    with pytest.raises(UserError, match=r"'no/such'.*cannot be loaded: .*give local files as data\.train"):
        load_splits(config(name="no/such", train="train", validation="test", test="test"), Tagging())


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"name": "nerr", "train": 1, "validation": 1}, "there is no such generator"),
        (
            {"name": "ner", "train": 1, "validation": 1, "options": {"noize": 1}},
            "unknown option 'noize' of corpus ner",
        ),
    ],
)
def test_a_generator_is_named_with_its_options(spec, said):
    with pytest.raises(UserError) as caught:
        load_splits(config(generated=spec), Tagging())
    assert said in str(caught.value)
    assert "ner" in caught.value.accepted or "noise" in caught.value.accepted


def test_one_file_as_train_and_validation_is_refused_once(tmp_path):
    file = tmp_path / "t.jsonl"
    file.write_bytes(lines(GOOD, {"tokens": ["a"]}, GOOD))
    with pytest.raises(UserError) as raised:
        load_splits(config(train=file, validation=file), Tagging())
    assert raised.value.sentence().count("t.jsonl") == 1
