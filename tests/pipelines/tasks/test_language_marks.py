"""A model that reads in the source which language to write gets no source without it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipelines.errors import UserError
from pipelines.models.tokenizer import train_tokenizer
from pipelines.tasks.shared.languages import require_mark, source_marks
from pipelines.tasks.summarization import Summarization
from pipelines.tasks.translation import Translation

MARIAN, MADLAD = [">>deu<<", ">>nld<<", ">>sr_Latn<<"], ["<2de>", "<2nl>", "<2sr_Latn>"]
ROW = {"id": "1", "source": "one two", "target": "eins zwei"}


def bound(task, marks, family="encoder_decoder"):
    tokenizer = train_tokenizer(family, iter(["one two three eins zwei"] * 9), 300)
    tokenizer.add_tokens(list(marks))
    task.bind(tokenizer, family)
    return task


@pytest.mark.parametrize("marks", [MARIAN, MADLAD])
@pytest.mark.parametrize("made", [Translation, Summarization])
def test_a_source_without_a_mark_is_refused_and_one_with_it_is_read(made, marks):
    with pytest.raises(UserError, match="writes several languages, and the source does not begin") as caught:
        bound(made(), marks).prepare([ROW])
    assert f'such as "{marks[0]} "; it has {", ".join(marks)}' in str(caught.value)
    by_prefix = bound(made(prefix=f"{marks[1]} "), marks)
    [feature] = by_prefix.prepare([ROW])
    assert feature["input_ids"][0] == by_prefix.processor.convert_tokens_to_ids(marks[1])
    in_row = bound(made(prefix=""), marks)
    assert in_row.prepare([ROW | {"source": f"{marks[2]} one"}])
    with pytest.raises(UserError, match="does not begin"):
        in_row.prepare([ROW | {"source": f"{marks[2]} one"}, ROW | {"source": f"{marks[0][:-1]} one"}])


@pytest.mark.parametrize(
    ("language", "mark"), [("de", "<2de>"), ("nl", "<2nl>"), ("Dutch", "<2nl>"), ("", "<2de>")]
)
def test_the_mark_of_the_language_that_is_set_is_suggested(language, mark):
    with pytest.raises(UserError, match=f'such as "{mark} "'):
        require_mark("one", MADLAD, language)


def test_a_tokenizer_of_one_language_needs_no_mark():
    assert source_marks(SimpleNamespace(get_vocab=lambda: {">>deu<<": 4, "de": 5, "<2": 6})) == []
    assert bound(Translation(), []).prepare([ROW])
    assert bound(Translation(), MARIAN, "decoder").prepare([ROW])
