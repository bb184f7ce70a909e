"""Questions as other people write them: every spelling of an answer and of none, nested or in lines."""

from __future__ import annotations

import csv
import json

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data.columns import value_at
from pipelines.data.splits import load_splits
from pipelines.errors import UserError
from pipelines.runs.prepare import about_data
from pipelines.tasks.generative_question_answering import GenerativeQuestionAnswering
from pipelines.tasks.question_answering import QuestionAnswering
from tests.pipelines.data.tagging import config

CONTEXT = "Zoë 👩 met Li in Łódź ."
START = CONTEXT.index("Li")
QUESTION = {"question": "who ?", "context": CONTEXT}

ONE_ANSWER = {
    "columns": {"answers": {"text": ["Li"], "answer_start": [START]}},
    "objects": {"answers": [{"text": "Li", "answer_start": START}]},
    "one object": {"answers": {"text": "Li", "answer_start": START}},
    "an empty text beside it": {"answers": {"text": ["Li", ""], "answer_start": [START, -1]}},
    "a start as float": {"answers": {"text": ["Li"], "answer_start": [float(START)]}},
    "possible": {"answers": {"text": ["Li"], "answer_start": [START]}, "is_impossible": False},
}
NO_ANSWER = {
    "empty lists": {"answers": {"text": [], "answer_start": []}},
    "an empty list": {"answers": []},
    "null": {"answers": None},
    "nulls": {"answers": {"text": None, "answer_start": None}},
    "an empty text": {"answers": {"text": [""], "answer_start": [-1]}},
    "one empty text": {"answers": {"text": "", "answer_start": -1}},
    "an empty object": {"answers": [{"text": "", "answer_start": -1}]},
    "impossible": {"answers": [], "is_impossible": True},
    "a plausible answer": {"answers": [{"text": "Li", "answer_start": START}], "is_impossible": True},
    "impossible as a number": {"answers": None, "is_impossible": 1},
}
TASKS = (QuestionAnswering, GenerativeQuestionAnswering)


def load(path, task=QuestionAnswering, rows=None, unanswerable=True, **entries):
    if rows is not None:
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return load_splits(config(train=path, **entries), task(unanswerable=unanswerable), required=["train"])


def references(splits, task=QuestionAnswering) -> list[list[str]]:
    return [task(unanswerable=True).reference(row) for row in splits.train]


@pytest.mark.parametrize("task", TASKS)
def test_every_spelling_of_an_answer_and_of_none_is_read(tmp_path, task):
    spellings = {**ONE_ANSWER, **NO_ANSWER}
    splits = load(tmp_path / "t.jsonl", task, [QUESTION | one for one in spellings.values()])
    found = dict(zip(spellings, references(splits, task)))
    assert found == {name: ["Li"] if name in ONE_ANSWER else [] for name in spellings}


@pytest.mark.parametrize("name", NO_ANSWER)
def test_a_file_in_which_no_question_has_an_answer_is_read(tmp_path, name):
    assert references(load(tmp_path / "t.jsonl", rows=[QUESTION | NO_ANSWER[name]] * 2)) == [[], []]
    with pytest.raises(UserError, match=r"has no answer \(set task.unanswerable: true"):
        load(tmp_path / "t.jsonl", rows=[QUESTION | NO_ANSWER[name]], unanswerable=False)


def test_what_contradicts_itself_is_refused(tmp_path):
    row = QUESTION | {"answers": [], "is_impossible": False}
    with pytest.raises(UserError, match="has no answer, although its is_impossible is false"):
        load(tmp_path / "t.jsonl", rows=[row])
    with pytest.raises(UserError, match="is_impossible that is neither true nor false: 'maybe'"):
        load(tmp_path / "t.jsonl", rows=[row | {"is_impossible": "maybe"}])


def article(*answers, **more):
    questions = [{"id": f"q{n}", "question": "who ?", **one} for n, one in enumerate(answers)]
    return {"title": "T", "paragraphs": [{"context": CONTEXT, "qas": questions}], **more}


def test_articles_are_read_nested_and_in_lines_and_so_are_paragraphs(tmp_path):
    # `answers` of the releases: objects; `nulls` has columns instead, as exports of data frames do.
    nested = article(*ONE_ANSWER.values(), *NO_ANSWER.values())
    expected = [["Li"]] * len(ONE_ANSWER) + [[]] * len(NO_ANSWER)
    (tmp_path / "t.json").write_text(json.dumps({"version": "v2.0", "data": [nested]}))
    assert references(load(tmp_path / "t.json")) == expected
    assert references(load(tmp_path / "t.jsonl", rows=[nested])) == expected
    assert references(load(tmp_path / "t.jsonl", rows=nested["paragraphs"])) == expected


def test_lines_of_articles_are_not_streamed(tmp_path):
    with pytest.raises(UserError, match=r"t\.jsonl: lines of articles .* set data\.streaming: false"):
        load(tmp_path / "t.jsonl", rows=[article(ONE_ANSWER["objects"])], streaming=True)


def test_a_bad_question_of_a_line_is_told_with_the_line_of_its_article(tmp_path):
    good, bad = article(ONE_ANSWER["objects"]), article(ONE_ANSWER["objects"], {"answers": 3})
    with pytest.raises(UserError, match=r"row 3 \(line 2\): has answers that are not a list of objects"):
        load(tmp_path / "t.jsonl", rows=[good, bad], columns={"id": "title"})


def test_answers_in_csv_and_parquet(tmp_path):
    answers = {"text": ["Li"], "answer_start": [START]}
    with open(tmp_path / "t.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [
                ["question", "context", "answers"],
                ["who ?", CONTEXT, json.dumps(answers)],
                ["x ?", CONTEXT, ""],
            ]
        )
    rows = [QUESTION | {"answers": answers}, QUESTION | {"answers": None}]
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        assert references(load(tmp_path / name)) == [["Li"], []]
    (tmp_path / "flat.csv").write_text(f"question,context,answer,start\nwho ?,{CONTEXT},Li,{START}\n")
    columns = {"answers": "answer", "answer_starts": "start"}
    assert references(load(tmp_path / "flat.csv", columns=columns)) == [["Li"]]


@pytest.mark.parametrize(
    ("encoding", "size", "unit"), [("utf-8", 1, "bytes"), ("utf-16-le", 2, "UTF-16 units")]
)
def test_starts_in_other_units_are_told(tmp_path, encoding, size, unit):
    start = len(CONTEXT[:START].encode(encoding)) // size
    rows = [QUESTION | {"answers": {"text": ["Li"], "answer_start": [start]}}] * 3
    with pytest.raises(UserError) as caught:
        load(tmp_path / "t.jsonl", rows=rows)
    said = f"row 1 and 2 more rows: has an answer start in {unit}, not in characters: 'Li' at {start}, which"
    assert f"{said} is {START}" in str(caught.value)


def test_answers_that_do_not_stand_at_their_start_are_counted_and_shown(tmp_path):
    rows = [QUESTION | {"answers": {"text": ["Li"], "answer_start": [place]}} for place in (START, 0, 2, 3)]
    with pytest.raises(
        UserError, match=r"row 2 and 2 more rows: has an answer that does not stand at its start"
    ):
        load(tmp_path / "t.jsonl", rows=rows)
    splits = load(tmp_path / "t.jsonl", on_bad_row="skip")
    assert references(splits) == [["Li"]]
    [line] = about_data(splits)
    assert line.startswith(
        "train: 3 rows left out: 3 as row 2, which has an answer that does not stand at its"
    )


def test_any_row_is_read_or_refused():
    values = st.sampled_from(
        [None, "", "Li", [], ["Li"], [""], [None], 0, -1, START, [START], [-1], 2.5, True]
    )
    answers = st.one_of(
        values,
        st.fixed_dictionaries({}, optional={"text": values, "answer_start": values}),
        st.lists(st.fixed_dictionaries({"text": values, "answer_start": values}), max_size=2),
    )

    @settings(max_examples=200, derandomize=True, deadline=None)
    @given(answers, st.sampled_from([None, True, False, "true", 3]))
    def check(value, impossible):
        task = QuestionAnswering(unanswerable=True)
        names = {"answers": "text", "answer_starts": "answer_start"}
        found = {name: value_at({"answers": value}, f"answers.{field}") for name, field in names.items()}
        example = task.spelled(
            QUESTION | found | ({} if impossible is None else {"is_impossible": impossible})
        )
        if task.check(example) is None:
            for text, start in zip(example["answers"], example["answer_starts"], strict=True):
                assert CONTEXT[start:].startswith(text)
            assert task.spelled(example) == example

    check()
