"""Tags of every scheme, from every format, are read as IOB2."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data.splits import load_splits
from pipelines.data.tag_schemes import scheme_of
from pipelines.errors import UserError
from pipelines.tasks.ner import Ner
from tests.pipelines.data.tagging import config


def read(*sentences: str) -> tuple[list[str], str]:
    split = [sentence.split() for sentence in sentences]
    scheme = scheme_of(split)
    return [" ".join(scheme.read(tags)) for tags in split], scheme.name


@pytest.mark.parametrize(
    ("given_tags", "expected", "name"),
    [
        ("O I-X I-X O I-Y", "O B-X I-X O B-Y", "IOB1"),
        ("I-X I-X B-X I-X I-Y", "B-X I-X B-X I-X B-Y", "IOB1"),
        ("O B-X I-X B-X O B-Y", "O B-X I-X B-X O B-Y", "IOB2"),
        ("O O", "O O", "only O"),
        ("S-X O B-Y I-Y E-Y", "B-X O B-Y I-Y I-Y", "IOBES"),
        ("U-X O B-Y I-Y L-Y", "B-X O B-Y I-Y I-Y", "BILOU"),
        ("B-X M-X E-X S-X", "B-X I-X I-X B-X", "BMES"),
        ("I-X E-X E-X O E-Y", "B-X I-X B-X O B-Y", "IOE"),
        ("X X O Y X", "B-X I-X O B-Y B-X", "IO"),
        ("B-X O I-X", "B-X O I-X", "mixed"),
        ("NN VB", "NN VB", "unknown"),
        ("b-x i-x O b-y", "b-x i-x O b-y", "unknown"),
        ("B_x I_x O", "B_x I_x O", "unknown"),
        ("x-B x-I O y-B", "x-B x-I O y-B", "unknown"),
        ("B I O", "B I O", "unknown"),
        ("e-mail e-mail O", "B-e-mail I-e-mail O", "IO"),
    ],
)
def test_schemes_are_read_as_iob2(given_tags, expected, name):
    assert read(given_tags) == ([expected], name)


def test_the_scheme_is_that_of_the_whole_source():
    """The second sentence alone would pass for IOB1; the first shows that the source is not."""
    assert read("O B-X I-X", "I-X O") == (["O B-X I-X", "I-X O"], "mixed")


@st.composite
def spans(draw):
    """Neighbouring entities of a sentence, and words outside: (type or None, length)."""
    return draw(st.lists(st.tuples(st.sampled_from([None, "X", "Y"]), st.integers(1, 4)), min_size=1))


WRITERS = {
    "IOB2": lambda kind, n, touches: [f"B-{kind}"] + [f"I-{kind}"] * (n - 1),
    "IOB1": lambda kind, n, touches: [f"{'B' if touches else 'I'}-{kind}"] + [f"I-{kind}"] * (n - 1),
    "IOBES": lambda kind, n, touches: ends(kind, n, "SE"),
    "BILOU": lambda kind, n, touches: ends(kind, n, "UL"),
}


def ends(kind: str, n: int, letters: str) -> list[str]:
    single, last = letters
    if n == 1:
        return [f"{single}-{kind}"]
    return [f"B-{kind}"] + [f"I-{kind}"] * (n - 2) + [f"{last}-{kind}"]


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_written_in_a_scheme_is_read_back(name):
    def written(sentence, scheme):
        tags: list[str] = []
        for place, (kind, n) in enumerate(sentence):
            touches = place > 0 and sentence[place - 1][0] == kind
            tags += ["O"] * n if kind is None else WRITERS[scheme](kind, n, touches)
        return tags

    @settings(max_examples=60, derandomize=True, deadline=None)
    @given(st.lists(spans(), max_size=4))
    def check(drawn):
        whole = [*drawn, [("X", 1), (None, 1), ("X", 3)]]  # an entity that shows the scheme
        tags = [written(sentence, name) for sentence in whole]
        scheme = scheme_of(tags)
        assert [scheme.read(given_tags) for given_tags in tags] == [written(s, "IOB2") for s in whole]

    check()


ROWS = [(["Ann", "Lee", "ran"], ["B-PER", "E-PER", "O"]), (["Rome"], ["S-LOC"])]


def as_lines(path):
    path.write_text("\n".join(json.dumps({"tokens": w, "ner_tags": t}) for w, t in ROWS))


def as_parquet(path):
    pyarrow.parquet.write_table(
        pa.table({"tokens": [w for w, _ in ROWS], "ner_tags": [t for _, t in ROWS]}), path
    )


def as_csv(path):
    cells = [[json.dumps(w).replace('"', '""'), json.dumps(t).replace('"', '""')] for w, t in ROWS]
    path.write_text("tokens,ner_tags\n" + "\n".join(f'"{w}","{t}"' for w, t in cells))


def as_conll(path):
    path.write_text("\n\n".join("\n".join(f"{w} {t}" for w, t in zip(*row)) for row in ROWS))


@pytest.mark.parametrize(
    ("name", "write", "streaming"),
    [
        ("t.jsonl", as_lines, False),
        ("t.jsonl", as_lines, True),
        ("t.parquet", as_parquet, False),
        ("t.parquet", as_parquet, True),
        ("t.csv", as_csv, False),
        ("t.conll", as_conll, False),
    ],
)
def test_every_format_may_have_every_scheme(tmp_path, name, write, streaming):
    write(tmp_path / name)
    task = Ner()
    splits = load_splits(config(train=tmp_path / name, streaming=streaming), task, required=["train"])
    assert [row["tags"] for row in splits.train] == [["B-PER", "I-PER", "O"], ["B-LOC"]]
    assert task.state()["labels"] == ["O", "B-LOC", "B-PER", "I-PER"]
    assert any("IOBES tags were read as IOB2" in note for note in splits.notes)
    assert "tags from ner_tags (IOBES)" in splits.layouts["train"]


def test_parts_of_speech_are_refused(tmp_path):
    (tmp_path / "t.conll").write_text("She PRP\nran VBD\n")
    with pytest.raises(UserError, match="has the tag 'PRP', where IOB2 has O, B-TYPE and I-TYPE"):
        load_splits(config(train=tmp_path / "t.conll"), Ner(), required=["train"])


def test_tags_in_different_columns_of_two_files_are_refused(tmp_path):
    (tmp_path / "t.conll").write_text("Bo B-PER O\nran O O\n")
    (tmp_path / "v.conll").write_text("Bo O B-PER\nran O O\n")
    files = {"train": tmp_path / "t.conll", "validation": tmp_path / "v.conll"}
    with pytest.raises(
        UserError, match=r"different columns \(got column 2 of .*, column 3 of .*columns\.tags"
    ):
        load_splits(config(**files), Ner())
    splits = load_splits(config(**files, columns={"tags": "column_2"}), Ner())
    assert [row["tags"] for row in splits.validation] == [["O", "O"]]
    (tmp_path / "v.conll").write_text("Li O O\n")  # without an entity any column will do
    assert len(load_splits(config(**files), Ner()).validation) == 1
