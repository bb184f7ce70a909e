"""CoNLL text in the dialects that are about."""

from __future__ import annotations

import pytest

from pipelines.data.conll import parse


def sentences(text: str) -> list[tuple[list[str], list[str]]]:
    rows, _, _ = parse(text)
    return [(row["tokens"], row["ner_tags"]) for row in rows]


def tags(*sentence_tags: str) -> tuple[list[list[str]], list[str]]:
    """Read sentences given by their tags alone."""
    text = "\n\n".join("\n".join(f"w {tag}" for tag in tags.split()) for tags in sentence_tags)
    rows, _, notes = parse(text)
    return [row["ner_tags"] for row in rows], notes


def test_sentences_end_at_blank_lines_and_the_last_needs_none():
    for end in ("", "\n", "\n\n"):
        assert sentences(f"\n\na O\nb B-X\n\n\nc O{end}") == [(["a", "b"], ["O", "B-X"]), (["c"], ["O"])]


def test_line_ends_and_tabs_with_blanks_inside_a_word_are_read():
    assert sentences("New York\tB-nom de lieu\r\nx\tO\r\n\r\ny\tO\r\n") == [
        (["New York", "x"], ["B-nom de lieu", "O"]),
        (["y"], ["O"]),
    ]


def test_columns_between_the_word_and_the_tag_are_kept():
    [row], lines, _ = parse("-DOCSTART- -X- O O\n\nEU NNP I-NP B-ORG\nsays VBZ I-VP O\n")
    assert row == {
        "tokens": ["EU", "says"],
        "column_2": ["NNP", "VBZ"],
        "column_3": ["I-NP", "I-VP"],
        "ner_tags": ["B-ORG", "O"],
    }
    assert lines == [3]


def test_documents_are_numbered_where_there_are_several():
    rows, _, notes = parse("-DOCSTART-\n\na O\n\n-DOCSTART- -X- O\n\nb O\n\nc O\n")
    assert [row["document"] for row in rows] == ["1", "2", "2"]
    assert "2 documents" in notes[0]


def test_comments_are_left_out_and_words_that_begin_with_a_hash_are_not():
    text = "# id 12 domain=en\n# newdoc\n#fun O\n# O\nx B-X\n"
    assert sentences(text) == [(["#fun", "#", "x"], ["O", "O", "B-X"])]
    assert sentences("# tagged by hand as O\na B-X\n") == [(["a"], ["B-X"])]
    assert sentences("# text = a b\n#\tO\na\tB-X\n") == [(["#", "a"], ["O", "B-X"])]


@pytest.mark.parametrize(
    ("given", "expected", "note"),
    [
        ("O I-X I-X O I-Y", "O B-X I-X O B-Y", "IOB1"),
        ("I-X I-X B-X I-X I-Y", "B-X I-X B-X I-X B-Y", "IOB1"),
        ("O B-X I-X B-X O B-Y", "O B-X I-X B-X O B-Y", None),
        ("O O", "O O", None),
        ("S-X O B-Y I-Y E-Y", "B-X O B-Y I-Y I-Y", "IOBES"),
        ("U-X O B-Y I-Y L-Y", "B-X O B-Y I-Y I-Y", "BILOU"),
        ("B-X O I-X", "B-X O I-X", "1 entities begin with I-, 1 with B-"),
    ],
)
def test_tag_dialects_are_read_as_iob2(given, expected, note):
    [found], notes = tags(given)
    assert found == expected.split()
    assert (notes == []) if note is None else (note in notes[0])


def test_the_dialect_is_that_of_the_whole_file():
    """The second sentence alone would pass for IOB1; the first shows that the file is not."""
    found, _ = tags("O B-X I-X", "I-X O")
    assert found == [["O", "B-X", "I-X"], ["I-X", "O"]]


def test_a_sentence_that_cannot_be_read_says_on_which_line():
    rows, lines, _ = parse("a O\nb O\n\nc O\nd\n\ne O\n")
    assert rows[1] == "has 1 column on line 5, where the file has 2"
    assert lines == [1, 4, 7]
    assert parse("a\nb\n")[0] == ["has 1 column on line 1, where the file has at least 2"]
