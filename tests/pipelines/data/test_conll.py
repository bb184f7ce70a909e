"""CoNLL text in the dialects that are about."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data.conll import parse


def sentences(text: str) -> list[tuple[list[str], list[str]]]:
    return [(row["tokens"], row["ner_tags"]) for row in parse(text).sentences]


def test_sentences_end_at_blank_lines_and_the_last_needs_none():
    for end in ("", "\n", "\n\n"):
        assert sentences(f"\n\na O\nb B-X\n\n\nc O{end}") == [(["a", "b"], ["O", "B-X"]), (["c"], ["O"])]


def test_line_ends_and_tabs_with_blanks_inside_a_word_are_read():
    assert sentences("New York\tB-nom de lieu\r\nx\tO\r\n\r\ny\tO\r\n") == [
        (["New York", "x"], ["B-nom de lieu", "O"]),
        (["y"], ["O"]),
    ]


def test_columns_between_the_word_and_the_tag_are_kept():
    found = parse("-DOCSTART- -X- O O\n\nEU NNP I-NP B-ORG\nsays VBZ I-VP O\n")
    assert found.sentences == [
        {
            "tokens": ["EU", "says"],
            "column_1": ["EU", "says"],
            "column_2": ["NNP", "VBZ"],
            "column_3": ["I-NP", "I-VP"],
            "column_4": ["B-ORG", "O"],
            "ner_tags": ["B-ORG", "O"],
        }
    ]
    assert found.first_lines == [3]
    assert found.layout == "4 columns, split at blanks: 1 tokens, 2 not used, 3 more tags, 4 ner_tags"


def test_documents_are_numbered_where_there_are_several():
    found = parse("-DOCSTART-\n\na O\n\n-DOCSTART- -X- O\n\nb O\n\nc O\n")
    assert [row["document"] for row in found.sentences] == ["1", "2", "2"]
    assert "2 documents" in found.notes[0]


def test_comments_are_left_out_and_words_that_begin_with_a_hash_are_not():
    text = "# id 12 domain=en\n# newdoc\n#fun O\n# O\nx B-X\n"
    assert sentences(text) == [(["#fun", "#", "x"], ["O", "O", "B-X"])]
    assert sentences("# tagged by hand as O\na B-X\n") == [(["a"], ["B-X"])]
    assert sentences("# text = a b\n#\tO\na\tB-X\n") == [(["#", "a"], ["O", "B-X"])]


def test_a_tab_as_a_word_does_not_split_the_file_at_tabs():
    text = "Mia B-PER\nruns O\n\n\t O\nRiga B-LOC\n\nTom B-PER\n"
    assert [words for words, _ in sentences(text)] == [["Mia", "runs"], ["\t", "Riga"], ["Tom"]]


def test_one_line_without_its_tab_does_not_split_the_file_at_blanks():
    found = parse("New York\tB-LOC\nis\tO\n\nLos Angeles\n\nx\tO\n")
    assert [row if isinstance(row, str) else row["tokens"] for row in found.sentences] == [
        ["New York", "is"],
        "has 1 column on line 4, where the file has 2",
        ["x"],
    ]


def test_only_ascii_blanks_split_columns():
    for space in "\u00a0\u2009\u3000\x85\u2028":
        assert sentences(f"7{space}500 B-X  \nm O\t\n") == [([f"7{space}500", "m"], ["B-X", "O"])]


def test_line_ends_of_every_kind_give_the_same_sentences():
    text = "Ada B-PER\nwon O\n\nIn O\nRome B-LOC"
    for ending in ("\r\n", "\r", "\r\r\n"):
        assert sentences(text.replace("\n", ending)) == sentences(text)


@pytest.mark.parametrize("first", ["1 2 3 1 2", "0 1 2 0 1", "1 2 3 4 5"])
def test_a_column_that_counts_the_words_is_not_the_words(first):
    counts = first.split()
    lines = ["Eva\tB-PER\tO", "Bonn\tB-LOC\tB-LOCpart", "ruft\tO\tO", "1\tO\tO", "Ort\tO\tO"]
    numbered = [f"{count}\t{line}" for count, line in zip(counts, lines)]
    found = parse("#\thttp://a.example [2011]\n" + "\n".join([*numbered[:3], "", *numbered[3:]]))
    assert found.sentences[0]["tokens"] == ["Eva", "Bonn", "ruft"]
    assert found.sentences[0]["ner_tags"] == ["B-PER", "B-LOC", "O"]
    assert found.sentences[0]["column_4"] == ["O", "B-LOCpart", "O"]
    assert "1 counts words or sentences, 2 tokens, 3 ner_tags, 4 more tags; 1 comment line" in found.layout
    assert "set data.columns.tags: column_4" in found.notes[0]


SENTENCES = [["Oslo B-LOC", "wächst O"], ["Ida B-PER", "und O", "Jon B-PER"]]


@pytest.mark.parametrize(
    "before",
    [
        "{sentence}-{word}",  # WebAnno
        "{sentence}-{word} {begin}-{end}",
        "{sentence}.{word}",
        "s{sentence}",  # the sentence of each word
        "news/a1 {sentence} {word}",  # OntoNotes: file, part, word
        "{begin}:{end}",
    ],
)
@pytest.mark.parametrize("num_sentences", [1, 2])
def test_columns_that_say_where_a_word_stands_are_not_the_words(before, num_sentences):
    lines, begin = [], 0
    for sentence, words in enumerate(SENTENCES[-num_sentences:], start=4):
        for word, rest in enumerate(words, start=1):
            first = before.format(sentence=sentence, word=word, begin=begin, end=begin + 3)
            lines.append(f"{first} {rest}")
            begin += 4
        lines.append("")
    found = [(row["tokens"], row["ner_tags"]) for row in parse("\n".join(lines)).sentences]
    assert found == [tuple(map(list, zip(*map(str.split, words)))) for words in SENTENCES[-num_sentences:]]


def test_tags_may_stand_before_the_words():
    text = "O\tplays\nB-ACTOR\tuma\nI-ACTOR\tthurman\n\nB-YEAR\t1994\n"
    assert sentences(text) == [
        (["plays", "uma", "thurman"], ["O", "B-ACTOR", "I-ACTOR"]),
        (["1994"], ["B-YEAR"]),
    ]
    assert parse(text).layout == "2 columns, split at tabs: 1 ner_tags, 2 tokens"
    assert sentences("O O\nB-52 B-PLANE\n\nO O\n")[0] == (["O", "B-52"], ["O", "B-PLANE"])


def test_words_that_are_numbers_are_words():
    assert sentences("5 CD B-X\n6 CD O\n\n9 CD O\n") == [(["5", "6"], ["B-X", "O"]), (["9"], ["O"])]
    assert sentences("1 O\n2 O\n") == [(["1", "2"], ["O", "O"])]


@pytest.mark.parametrize(
    ("columns", "label"),
    [
        ("x NN B-NP", 3),  # the chunks of CoNLL-2000
        ("x NN B-NP B-PER", 4),
        ("x B-PER B-NP", 2),
        ("x O _ B-PER", 4),  # MultiCoNER
        ("x lemma NN B-NP O B-PER", 6),
        ("x NN PER", 3),
    ],
)
def test_the_labels_are_the_first_column_of_entities(columns, label):
    fields = columns.split()
    rest = " ".join("O" if place > 0 and ("-" in f or f == "PER") else f for place, f in enumerate(fields))
    [(_, tags)] = sentences(f"{columns}\n{rest}\n{rest}\n")
    assert tags[0] == fields[label - 1]


def test_any_mixture_of_widths_and_bytes_is_read_or_refused_with_its_line():
    @settings(max_examples=200, derandomize=True, deadline=None)
    @given(st.text(alphabet="aO\t \n\r#-B\u00a0", max_size=60))
    def read(text):
        found = parse(text)
        assert len(found.sentences) == len(found.first_lines)
        for row in found.sentences:
            if isinstance(row, str):
                assert " on line " in row
            else:
                assert len(row["tokens"]) == len(row["ner_tags"]) > 0
                assert all(row["tokens"])

    read()


def test_a_sentence_that_cannot_be_read_says_on_which_line():
    found = parse("a O\nb O\n\nc O\nd\n\ne O\n")
    assert found.sentences[1] == "has 1 column on line 5, where the file has 2"
    assert found.first_lines == [1, 4, 7]
    assert parse("a\nb\n").sentences[0] == "has 1 column on line 1, where the file has at least 2"


def test_ranges_and_empty_nodes_of_conll_u_are_no_words_and_are_counted():
    rows = ["# text = Vamos al cine", "1 Vamos O", "2-3 al O", "2 a O", "3 el O", "3.1 _ O", "4 cine B-LOC"]
    text = "\n".join([*rows, "", "1 Sí O", "2 . O", ""])
    found = parse(text.replace(" ", "\t"))
    assert [s["tokens"] for s in found.sentences] == [["Vamos", "a", "el", "cine"], ["Sí", "."]]
    assert "ranges and empty nodes (1-2, 1.1) are left out: 2 lines" in found.notes
    divided = parse("-DOCSTART-\tO\tO\n\n" + text.replace(" ", "\t"))
    assert [s["tokens"] for s in divided.sentences] == [s["tokens"] for s in found.sentences]
    uncounted = parse("\n".join(["3-1 NUM O", "won VERB O", "2.5 NUM O"]))
    assert [s["tokens"] for s in uncounted.sentences] == [["3-1", "won", "2.5"]]
    assert not uncounted.notes


def test_many_words_without_a_blank_line_are_told_to_be_one_sentence():
    words = "".join(f"w{n}\tO\n" for n in range(75))
    assert parse(words).notes == ["no blank line divides it, so its 75 words are one sentence"]
    assert parse(words + "\n" + words).notes == []
    assert parse("w\tO\n" * 20).notes == []
