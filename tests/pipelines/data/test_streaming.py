"""Rows that are read one by one are the same rows, with the same faults, and are not held in memory."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from pipelines.corpora import image_classification as stripes
from pipelines.data.splits import load_splits
from pipelines.data.streaming import OnDisk
from pipelines.errors import UserError
from pipelines.tasks.forecasting import Forecasting
from pipelines.tasks.image_classification import ImageClassification
from tests.pipelines.data.tagging import Tagging, config

ROWS = [{"tokens": ["東京", f"b{n}"], "ner_tags": ["O", "B-X"], "id": f"r{n}"} for n in range(1203)]


def written(folder, name: str, rows=ROWS):
    path = folder / name
    if name.endswith(".parquet"):
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
        return path
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return path


def read(path, part: str = "", task=None, **settings):
    entries = {"train": f"{path}{part}", **settings}
    return load_splits(config(**entries), task or Tagging(), required=["train"])


@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.gz", "gzip.jsonl", "t.parquet"])
@pytest.mark.parametrize("part", ["", "[7:1150]", "[-20%:]"])
def test_the_examples_and_their_hash_are_the_same(tmp_path, name, part):
    path = written(tmp_path, name)
    if name == "gzip.jsonl":
        path.write_bytes(gzip.compress(path.read_bytes()))
    held, streamed = (read(path, part, streaming=streaming) for streaming in (False, True))
    assert isinstance(streamed.train, OnDisk)
    assert list(streamed.train) == held.train == streamed.train[:]
    assert streamed.train[-1] == held.train[-1]
    assert streamed.hashes == held.hashes


def test_faults_are_told_with_the_same_words(tmp_path):
    rows = [*ROWS[:5], {"tokens": ["a"], "ner_tags": [], "id": "odd"}, *ROWS[5:], ROWS[3]]
    path = written(tmp_path, "t.jsonl", rows)
    with open(path, "ab") as file:
        file.write(b'{"tokens": ["a"\n')
    said = []
    for streaming in (False, True):
        with pytest.raises(UserError) as caught:
            read(path, streaming=streaming)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "row 6: has 1 tokens and 0 tags" in said[0]
    assert "row 1205: has the id 'r3' of row 4" in said[0]
    assert "row 1206: is not valid JSON" in said[0]
    [held, streamed] = [read(path, on_bad_row="skip", streaming=streaming) for streaming in (False, True)]
    assert streamed.skipped == held.skipped
    assert streamed.hashes == held.hashes


def test_a_line_in_another_encoding_is_named(tmp_path):
    path = written(tmp_path, "t.jsonl", ROWS[:3])
    with open(path, "ab") as file:
        file.write('{"tokens": ["é"], "ner_tags": ["O"]}\n'.encode("cp1252"))
    with pytest.raises(UserError, match=r"t\.jsonl, line 4: is not UTF-8 \(got byte 0xe9\)"):
        read(path, streaming=True)


def test_pictures_stay_on_disk_too(tmp_path):
    path = written(tmp_path, "t.parquet", stripes.generate(30, 0, "train"))
    held, streamed = (
        read(path, task=ImageClassification(), streaming=streaming) for streaming in (False, True)
    )
    assert list(streamed.train) == held.train


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", b"tokens,ner_tags\n", "only JSON lines and parquet are read row by row (got csv)"),
        ("t.parquet", b"PAR1 and no more", "t.parquet: is not a whole parquet file"),
        # mtime: the bytes are in the name of the test, which every worker has to find alike.
        ("t.jsonl.gz", gzip.compress(b'{"tokens": []}\n' * 999, mtime=0)[:-9], "cannot be read to its end"),
        ("t.jsonl", b"\n\n", "t.jsonl: the train split has no rows"),
    ],
)
def test_what_cannot_be_streamed_is_refused(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read(tmp_path / name, streaming=True)
    assert said in str(caught.value)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_parquet_file_that_is_damaged_inside_is_refused(tmp_path, streaming):
    whole = written(tmp_path, "t.parquet", ROWS[:50]).read_bytes()
    damaged = tmp_path / "d.parquet"
    for place in range(4, len(whole) - 8, len(whole) // 40):
        damaged.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with suppress(UserError):  # most damage is found, and no other error comes
            read(damaged, streaming=streaming, on_bad_row="skip")


def test_a_series_is_refused():
    with pytest.raises(UserError, match=r"data\.streaming: a series is read as a whole"):
        read("t.jsonl", task=Forecasting(channels=["x"]), streaming=True)


def test_where_rows_are_held_is_no_part_of_a_runs_identity(tmp_path):
    from pipelines.config.load import run_from_dict
    from pipelines.runs import identity

    path = str(written(tmp_path, "t.jsonl", ROWS[:3]))
    model = {"architecture": "bert", "family": "encoder"}
    hashes = {
        identity.run_hash(
            identity.describe(
                run_from_dict(
                    {
                        "task": "ner",
                        "model": model,
                        "data": {"train": path, "validation": path, "streaming": streaming},
                    }
                )
            )
        )
        for streaming in (False, True)
    }
    assert len(hashes) == 1


MEASURED = """
import sys
from pathlib import Path
from pipelines.data.splits import load_splits
from tests.pipelines.data.tagging import Tagging, config
def peak():  # in MB; not ru_maxrss, which begins at that of the parent
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
begun = peak()
asked = config(train=sys.argv[1], streaming=sys.argv[2] == "true")
splits = load_splits(asked, Tagging(), required=["train"])
print(len(splits.train), peak() - begun)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_a_file_does_not_grow_the_memory_that_reads_it(tmp_path):
    """60 MB of rows: held they take several times that, streamed less than a third of it."""
    long = [{"tokens": ["word" * 50] * 100, "ner_tags": ["O"] * 100} for _ in range(50)]
    text = "".join(json.dumps(row) + "\n" for row in long) * 56
    (tmp_path / "t.jsonl").write_text(text)
    grown = {}
    for streaming in ("false", "true"):
        command = [sys.executable, "-c", MEASURED, str(tmp_path / "t.jsonl"), streaming]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        count, grown[streaming] = map(float, done.stdout.split())
        assert count == 2800
    size = len(text) / 2**20
    assert grown["true"] < size / 3 < size < grown["false"]
