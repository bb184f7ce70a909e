"""What `attnlab predict` says about a text can be found in the text as it came."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines.actions.predict import LINE, input_examples
from pipelines.data.readers import of_rows
from pipelines.tasks.ner import Ner
from pipelines.tasks.question_answering import QuestionAnswering
from tests.pipelines.tasks.writing import FAMILIES, bound

ODD = (  # joiners, right-to-left, combining accents, blanks of all kinds, flags, what no one sees
    "👩🏽‍🚀",
    "👨‍👩‍👧",
    "🇳🇴",
    "שלום",
    "\u200fمي\u200cخواهم\u200f",
    unicodedata.normalize("NFD", "Zoë Ångström"),
    "नमस्ते",
    "東京タワー",
    "\t",
    "  ",
    "\u00a0",
    "\u2003",
    "\u200b",
    "Ber\u00adlin",
    "O’Neill-Baker",
    "U.S.",
    "(",
    "\x07",
    "️",
)
TEXTS = st.lists(st.one_of(st.sampled_from(ODD), st.text(max_size=8))).map("".join)
LINES = TEXTS.map(lambda text: text.replace("\n", " ").replace("\r", " "))


def ner() -> Ner:
    task = Ner(max_len=24, overlap=4)
    task.fit({"train": [{"tokens": ["a"], "tags": [tag]} for tag in ("B-X", "I-X")]})
    return task


def answered(line: str, label) -> dict[str, Any]:
    """The answer to a line, with the labels that `label` gives the words."""
    task = ner()
    [row] = input_examples(of_rows("lines", [{LINE: line}]), task, {})
    numbers = [task._labels.index(label(place)) for place in range(len(row["tokens"]))]
    return task.answer(row, [{"words": range(len(numbers)), "labels": numbers}])


@settings(max_examples=40)
@given(line=LINES.filter(lambda line: Ner().from_text(line)["tokens"]), seed=st.integers(0, 99))
@example("Hi, Jørn (of Umbrella)!", 1)
@example("e\u0301 a\u0308bc\u00a0x", 2)
def test_an_entity_is_the_characters_at_its_place_in_the_line(line, seed):
    found = answered(line, lambda place: ("O", "B-X", "I-X")[(place * seed + seed) % 3])
    assert found["text"] == line
    for entity in found["entities"]:
        assert line[entity["start"] : entity["end"]] == entity["text"]
        assert entity["text"].strip() == entity["text"] != ""
    places = [(entity["start"], entity["end"]) for entity in found["entities"]]
    assert places == sorted(places)


@settings(max_examples=40)
@given(LINES)
def test_the_words_of_a_line_are_all_that_is_seen_of_it(line):
    words = Ner().from_text(line)["tokens"]
    assert all(word and not word[0].isspace() for word in words)
    seen = [c for c in line if c.isalnum()]
    assert [c for word in words for c in word if c.isalnum()] == seen
    at = 0
    for word in words:
        at = line.index(word, at) + len(word)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Hi, Jørn (of Umbrella)!", ["Hi", ",", "Jørn", "(", "of", "Umbrella", ")", "!"]),
        ("“So?”—no…", ["“", "So", "?", "”", "—", "no", "…"]),
        ("Zoe\u0308\u00a0saw 👩🏽‍🚀🇳🇴", ["Zoe\u0308", "saw", "👩🏽‍🚀", "🇳🇴"]),
        ("O’Neill-Baker's\t3.5  kg", ["O’Neill-Baker's", "3.5", "kg"]),
        ("\u200fשלום\u200f, Ber\u00adlin", ["שלום", ",", "Ber\u00adlin"]),
    ],
)
def test_words_are_split_from_signs_and_kept_whole(line, words):
    assert Ner().from_text(line)["tokens"] == words


@settings(max_examples=40)
@given(st.lists(TEXTS, min_size=1))
def test_an_entity_of_a_list_of_words_is_in_the_joined_text(words):
    row = {"id": "1", "tokens": words}
    task = ner()
    found = task.answer(row, [{"words": range(len(words)), "labels": [1] * len(words)}])
    assert found["text"] == " ".join(words)
    assert [found["text"][e["start"] : e["end"]] for e in found["entities"]] == words
    assert [e["end"] - e["start"] for e in found["entities"]] == [len(word) for word in words]
    assert all(a["end"] < b["start"] for a, b in zip(found["entities"], found["entities"][1:]))


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=40)
@given(context=TEXTS.filter(str.strip), data=st.data())
def test_an_answer_is_the_characters_at_its_place_in_the_context(family, context, data):
    task = bound(QuestionAnswering(max_len=48, overlap=4), family)
    row = {"id": "1", "question": "What?", "context": context}
    raws = []
    for feature in task.prepare([row]):
        ends = [place for place, (b, e) in enumerate(zip(feature["begins"], feature["ends"])) if b < e]
        spans = []
        if ends:
            first, last = sorted(data.draw(st.lists(st.sampled_from(ends), min_size=2, max_size=2)))
            spans = [[1.0, feature["begins"][first], feature["ends"][last]]]
        raws.append({"spans": spans, "total": 1.0, "null": 0.0})
    for found in task.answer(row, raws)["n_best"]:
        assert context[found["start"] : found["end"]] == found["text"]
        assert found["text"].strip() == found["text"] != ""
