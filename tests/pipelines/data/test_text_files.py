"""Plain text, parallel text, and separated values with any delimiter, with a header line or without."""

from __future__ import annotations

import csv
import gzip
import io
import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.config.load import load_run, run_from_dict
from pipelines.data.separated import parse
from pipelines.data.splits import load_splits
from pipelines.errors import UserError
from pipelines.runs import identity
from pipelines.tasks.language_modelling import LanguageModelling
from pipelines.tasks.ner import Ner
from pipelines.tasks.summarization import Summarization
from pipelines.tasks.text_classification import TextClassification
from pipelines.tasks.translation import Translation
from tests.pipelines.data.tagging import config

REVIEWS = [("so; good, really", "pos"), ('bad "film"', "neg"), ("fine | ok", "pos"), ("dull", "neg")]


def load(task, train, **entries):
    return load_splits(config(train=train, **entries), task, required=["train"])


def translation() -> Translation:
    return Translation(target_language="de")


# ---- plain text
@pytest.mark.parametrize(
    ("text", "format", "rows"),
    [
        ("one\ntwo\n", None, ["one", "two"]),
        ("one\ntwo\n\nthree\n", None, ["one\ntwo", "three"]),
        ("one\ntwo\n\nthree\n", "lines", ["one", "two", "three"]),
        ("one\ntwo\n", "paragraphs", ["one\ntwo"]),
        ("one\rtwo\r", None, ["one", "two"]),
        ("one\r\rtwo\rthree", None, ["one", "two\nthree"]),
        ("o\rne\ntwo\n", None, ["o\rne", "two"]),
        ("\n\none\r\ntwo \u2028 x\r\n\r\n", None, ["one", "two \u2028 x"]),
    ],
)
def test_text_has_a_row_a_line_or_a_paragraph(tmp_path, text, format, rows):
    (tmp_path / "t.txt").write_bytes(text.encode())
    splits = load(LanguageModelling(), tmp_path / "t.txt", format=format)
    assert [row["text"] for row in splits.train] == rows
    assert bool(splits.notes) == (format is None)


def test_text_may_be_compressed_and_cut_into_rows(tmp_path):
    (tmp_path / "t.txt.gz").write_bytes(gzip.compress(b"".join(b"line %d\n" % n for n in range(10))))
    splits = load(LanguageModelling(), f"{tmp_path / 't.txt.gz'}[8:]")
    assert [(row["id"], row["text"]) for row in splits.train] == [("9", "line 8"), ("10", "line 9")]


def test_text_without_the_columns_of_a_task_says_how_it_was_read(tmp_path):
    (tmp_path / "t.txt").write_text("a O\nb O\n")
    with pytest.raises(
        UserError, match=r"has no column 'label'.*; read as lines of plain text \(data\.format"
    ):
        load(TextClassification(), tmp_path / "t.txt")


# ---- parallel text
def parallel(folder, source: str, target: str, part: str = "") -> dict[str, str]:
    (folder / "t.en").write_bytes(source.encode())
    (folder / "t.de").write_bytes(target.encode())
    return {"source": f"{folder / 't.en'}{part}", "target": f"{folder / 't.de'}{part}"}


def test_lines_of_parallel_files_belong_together(tmp_path):
    files = parallel(tmp_path, 'a dog\r\nI\u2028see\r\n"x\r\n', "ein Hund\nich sehe\ny")
    rows = [(row["source"], row["target"]) for row in load(translation(), files).train]
    assert rows == [("a dog", "ein Hund"), ("I\u2028see", "ich sehe"), ('"x', "y")]
    part = {name: f"{file}[1:2]" for name, file in files.items()}
    assert [row["id"] for row in load(translation(), part).train] == ["2"]


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("a\nb\n", "x\n", r"have different numbers of lines \(got .*t\.en 2, .*t\.de 1\)"),
        ("a\n\nb\n", "x\ny\nz\n", r"t\.en \+ .*t\.de, row 2: has an empty source"),
        ("a\nb", "x\n\n", r"row 2: has an empty target"),
    ],
)
def test_parallel_files_that_do_not_fit_are_refused(tmp_path, source, target, said):
    with pytest.raises(UserError, match=said):
        load(translation(), parallel(tmp_path, source, target))


def test_parallel_files_are_found_beside_their_yaml_and_part_of_the_identity(tmp_path):
    parallel(tmp_path, "a\n", "x\n")
    (tmp_path / "run.yaml").write_text(
        "task: {name: translation, target_language: de}\nmodel: {architecture: t5, family: encoder_decoder}\n"
        "data: {train: {source: t.en, target: t.de}, validation: {source: t.en, target: t.de}}\n"
    )
    run = load_run([str(tmp_path / "run.yaml")])
    assert run.data.train == {"source": str(tmp_path / "t.en"), "target": str(tmp_path / "t.de")}
    assert run_from_dict(run.to_dict()) == run
    before = identity.run_hash(identity.describe(run))
    parallel(tmp_path, "a\n", "z\n")
    assert identity.run_hash(identity.describe(run)) != before
    (tmp_path / "t.de").unlink()
    with pytest.raises(UserError, match=r"run\.yaml:3: data\.train\.target: there is no file t\.de"):
        load_run([str(tmp_path / "run.yaml")])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            "{train: {source: t.en, target: t.de}, validation: t.en, format: csv}",
            "data.format and a file for",
        ),
        ("{train: {source: 3, target: t.de}, validation: t.en}", "data.train.source must be text"),
        ("{train: 3, validation: t.en}", "data.train must be text"),
        ("{train: {}, validation: t.en}", "data.train must be given, at least 1"),
    ],
)
def test_settings_of_parallel_files_are_checked(tmp_path, data, said):
    parallel(tmp_path, "a\n", "x\n")
    (tmp_path / "run.yaml").write_text(
        "task: {name: translation, target_language: de}\nmodel: {architecture: t5, family: encoder_decoder}\n"
        f"data: {data}\n"
    )
    with pytest.raises(UserError) as caught:
        load_run([str(tmp_path / "run.yaml")])
    assert said in str(caught.value)


# ---- separated values
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", [["text", "label"], ["label", "text"], None])
def test_the_delimiter_and_the_header_of_csv_are_found(tmp_path, delimiter, header):
    cells = [dict(zip(("text", "label"), row)) for row in REVIEWS]
    sink = io.StringIO()
    writer = csv.writer(sink, delimiter=delimiter)
    order = header or ["text", "label"]
    writer.writerows(([header] if header else []) + [[row[name] for name in order] for row in cells])
    (tmp_path / "t.csv").write_text(sink.getvalue())
    columns = {} if header else {"text": "column_1", "label": "column_2"}
    splits = load(TextClassification(), tmp_path / "t.csv", columns=columns)
    assert [(row["text"], row["label"]) for row in splits.train] == REVIEWS
    assert any("has no header line" in note for note in splits.notes) == (header is None)
    assert any("split at" in note for note in splits.notes) == (delimiter != ",")


def test_a_file_without_a_header_says_so_where_its_columns_are_not_named(tmp_path):
    (tmp_path / "t.tsv").write_text("nice\tpos\npoor\tneg\ngood\tpos\n")
    with pytest.raises(
        UserError, match=r"there: column_1, column_2; .*without a header line \(the first row is"
    ):
        load(TextClassification(), tmp_path / "t.tsv")


def test_a_message_shows_only_the_beginning_of_a_long_first_row(tmp_path):
    (tmp_path / "t.tsv").write_text(f"{'word ' * 4000}\t3\nother\t4\n")
    with pytest.raises(UserError, match=r"the first row is .*wo…\)") as told:
        load(TextClassification(), tmp_path / "t.tsv")
    assert len(str(told.value)) < 2000


def test_words_in_a_tsv_file_are_told_the_format_that_reads_them(tmp_path):
    (tmp_path / "t.tsv").write_text("1\tOtto\tB-PER\n2\tsings\tO\n")
    with pytest.raises(UserError, match=r"data\.format: conll reads a word a line"):
        load(Ner(), tmp_path / "t.tsv")
    splits = load(Ner(), tmp_path / "t.tsv", format="conll")
    assert splits.train[0]["tokens"] == ["Otto", "sings"]


def test_a_backslash_before_a_quotation_mark_is_told(tmp_path):
    (tmp_path / "t.csv").write_text('text,label\n"a \\"fine\\" film",pos\n')
    with pytest.raises(UserError, match=r't\.csv, line 2: .*where CSV doubles it \(""\)'):
        load(TextClassification(), tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("content", "is_told"),
    [
        ({"source": ["a b", "c d", "e f"], "target": ["A", "C", "E"]}, True),
        ({"source": ["one sentence", "another"], "target": "short"}, False),
        ([{"source": "a b", "target": "A"}], False),
    ],
)
def test_json_of_columns_is_one_row_and_says_so(tmp_path, content, is_told):
    (tmp_path / "t.json").write_text(json.dumps(content))
    splits = load(Summarization(), tmp_path / "t.json")
    assert len(splits.train) == 1
    assert any("holds one object, read as one row" in note for note in splits.notes) == is_told


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("review,score\nx,1\ny,2\n", ["review", "score"]),
        ("x,1\ny,2\n", ["column_1", "column_2"]),
        ("y,pos\nz,neg\nx,pos\n", ["column_1", "column_2"]),
        (",tweet,mood\n0,x,a\n1,y,b\n", ["unnamed_1", "tweet", "mood"]),  # pandas numbers its rows
        ("text;score\nGut;3,5\nSchlecht;2,0\n", ["text", "score"]),
        ("name|text\na|b, c\nd|e\n", ["name", "text"]),
        ("sep=;\r\nmot,s;ton\r\na,b;c\r\n", ["mot,s", "ton"]),  # Excel states what it separates by
        ("satz;ton;;\na;b;;\nc;d;;\n", ["satz", "ton", "unnamed_3", "unnamed_4"]),
        ("Das Boot ist alt.\tThe boat is old.\nEs regnet.\tIt rains.\n", ["column_1", "column_2"]),
        ("Wie war das Essen?;Wie alt sind Sie?\ngut;31\n", ["Wie war das Essen?", "Wie alt sind Sie?"]),
    ],
)
def test_a_header_is_known_by_what_stands_below(text, header):
    assert parse(text, "t.csv", [], by_tabs=False).header == header


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_csv_writes_is_read_back(delimiter):
    cell = st.text(alphabet='ab ,;"\n\t|é', min_size=1, max_size=6)

    @settings(max_examples=150, derandomize=True, deadline=None)
    @given(st.lists(st.tuples(cell, cell), min_size=1, max_size=6))
    def check(rows):
        sink = io.StringIO()
        csv.writer(sink, delimiter=delimiter).writerows([("text", "label"), *rows])
        read = parse(sink.getvalue(), "t.csv", ["text", "label"], by_tabs=False)
        assert [(row["text"], row["label"]) for row in read.rows] == rows

    check()


def test_any_text_is_read_or_refused():
    @settings(max_examples=200, derandomize=True, deadline=None)
    @given(st.text(alphabet='ab1,;"\n\r\t|', max_size=40), st.booleans())
    def check(text, by_tabs):
        with suppress(UserError):
            read = parse(text, "t.csv", ["a"], by_tabs=by_tabs)
            assert len(read.rows) == len(read.lines)
            assert all(isinstance(row, str) or list(row) == read.header for row in read.rows)

    check()


def test_tsv_that_was_written_as_csv_is_told(tmp_path):
    """A quotation mark is text between tabs: GLUE has single ones, and pandas writes doubled ones."""
    (tmp_path / "t.tsv").write_text('text\tlabel\n"a ""fine"" film"\tpos\n"dull\tneg\nbad "plot"\tneg\n')
    splits = load(TextClassification(), tmp_path / "t.tsv")
    assert [row["text"] for row in splits.train] == ['"a ""fine"" film"', '"dull', 'bad "plot"']
    assert any("1 cell in quotation marks with doubled ones inside" in note for note in splits.notes)
    (tmp_path / "u.tsv").write_text('text\tlabel\n"a ""fine"" film"\tpos\ndull\tneg\n')
    splits = load(TextClassification(), tmp_path / "u.tsv", format="csv")
    assert [row["text"] for row in splits.train] == ['a "fine" film', "dull"]


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ('["ja", "nein"]', ["ja", "nein"]),
        ("['ja', \"it's\"]", ["ja", "it's"]),  # pandas writes a column of lists like this
        ("['Oslo' 'liegt'\n 'am' 'Meer']", ["Oslo", "liegt", "am", "Meer"]),  # and one of arrays like this
        ("[3 0 -7]", [3, 0, -7]),
        (
            "{'text': array(['rot'], dtype=object), 'answer_start': array([4])}",
            {"text": ["rot"], "answer_start": [4]},
        ),
        (
            "{'text': array([], dtype=object), 'answer_start': array([], dtype=int32)}",
            {"text": [], "answer_start": []},
        ),
        ("[('a', 1, None), ('b', nan, True)]", [["a", 1, None], ["b", None, True]]),
        ("[1-2]", "[1-2]"),
        ("[siehe oben]", "[siehe oben]"),
        ("[open('x')]", "[open('x')]"),
    ],
)
def test_a_cell_that_holds_a_list_is_one(cell, value):
    sink = io.StringIO()
    csv.writer(sink).writerows([("text", "other"), ("a", cell), ("b", "")])
    rows = parse(sink.getvalue(), "t.csv", ["text"], by_tabs=False).rows
    assert [row["other"] for row in rows] == [value, None]


def test_a_line_that_states_the_delimiter_is_counted_in_messages():
    read = parse('sep=;\r\ntext;label\r\na;b\r\n"c\r\nd";e\r\nf;g\r\n', "t.csv", ["text"], by_tabs=False)
    assert read.lines == [3, 4, 6]
    assert read.rows[1] == {"text": "c\r\nd", "label": "e"}


def test_a_table_that_pandas_wrote_column_by_column_has_its_rows(tmp_path):
    content = {"source": {"0": "a b c", "1": "d e"}, "target": {"0": "a", "1": "d"}}
    (tmp_path / "t.json").write_text(json.dumps(content))
    splits = load(Summarization(), tmp_path / "t.json")
    assert [(row["source"], row["target"]) for row in splits.train] == [("a b c", "a"), ("d e", "d")]


def test_several_lists_in_one_file_are_refused_by_name(tmp_path):
    (tmp_path / "t.json").write_text(json.dumps({"train": [{"source": "a"}], "dev": [{"source": "b"}]}))
    with pytest.raises(UserError, match=r"several lists of rows \(got train, dev\)"):
        load(Summarization(), tmp_path / "t.json")
