"""CoNLL text: one word per line with its tags, and a blank line between sentences."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pipelines.data.tag_schemes import OUTSIDE, has_prefix
from pipelines.shown import plural

Fields = list[str]
Line = tuple[int, str]  # number from 1, text
BLANKS = " \t"  # what separates columns; a no-break space is part of a word, as for conlleval
DOCUMENT = "-DOCSTART-"
COUNT = re.compile(r"^\d+[-.](?=\d+$)")  # of WebAnno: 3-1 is the first word of the third sentence
PLACE = re.compile(r"(\d+)[-:]\d+")  # its characters: 0-4
RANGE = re.compile(r"\d+[-.]\d+")  # of CoNLL-U: 1-2 joins two words that follow, 1.1 is no word of the text
# Types of phrases: a column of these is not one of named entities (CoNLL-2000, CoNLL-2003).
CHUNKS = frozenset(
    ["NP", "VP", "PP", "ADVP", "ADJP", "SBAR", "PRT", "CONJP", "INTJ", "LST", "UCP", "NC", "VC", "PC"]
)
MANY_WORDS = 60  # more than a sentence has
MOST_WRONG = 0.1  # share of the words of a column of tags that may have something else


@dataclass(frozen=True)
class Conll:
    """The sentences of a file (or, for one that cannot be read, why), and how the file was read."""

    sentences: list[dict[str, Any] | str]
    first_lines: list[int]
    layout: str
    notes: list[str]
    tag_column: int | None  # from 1; None if the file has no entity, by which it is known


@dataclass(frozen=True)
class Splitting:
    """How the lines of a file are split into columns."""

    name: str
    split: Callable[[str], Fields]
    width: int

    def fields(self, line: str) -> Fields:
        """Return the columns of a line, without empty ones after the last column."""
        found = self.split(line)
        while len(found) > self.width and not found[-1]:
            found.pop()
        return found


def parse(text: str) -> Conll:
    """Read a CoNLL file.

    A sentence has the columns `tokens`, `ner_tags` and each as `column_1`, `column_2` ..., plus `document`
    where -DOCSTART- lines divide the file. Columns are split at tabs, at single blanks or at runs of blanks:
    what most lines share. The words are the first column that does not number them or their sentences. The
    tags are the first column of entities; phrases (CoNLL-2003) are none. They may stand before the words.
    """
    lines = list(enumerate(_lines(text), start=1))
    words = [line for line in lines if not _ends_sentence(line[1])]
    sure = [line for _, line in words if not line.startswith(("#", DOCUMENT))]
    splitting = _splitting(sure or [line for _, line in words if not line.startswith(DOCUMENT)])
    last = {fields[-1] for fields in map(splitting.fields, sure) if len(fields) == splitting.width}
    kept = _without_ranges(lines, splitting, last)
    found, documents, num_comments = _sentences(kept, splitting, last)
    faults = [_fault(sentence, splitting.width) for sentence in found]
    whole = [_columns(sentence) for sentence, fault in zip(found, faults) if not fault]
    word, tag = _roles(whole, splitting.width)
    several = documents[-1:] > [1]
    sentences: list[dict[str, Any] | str] = []
    for sentence, fault, document in zip(found, faults, documents):
        columns = [] if fault else _columns(sentence)
        fault = fault or _empty(sentence, word, tag)
        named = {f"column_{place}": column for place, column in enumerate(columns, start=1)}
        row = {"tokens": columns[word], **named, "ner_tags": columns[tag]} if not fault else {}
        sentences.append(fault or row | ({"document": str(document)} if several else {}))
    layout, notes = _described(whole, splitting, word, tag, num_comments)
    if len(kept) < len(lines):
        count = plural(len(lines) - len(kept), "line")
        notes.append(f"ranges and empty nodes (1-2, 1.1) are left out: {count}")
    if len(found) == 1 and len(found[0]) >= MANY_WORDS:
        notes.append(f"no blank line divides it, so its {plural(len(found[0]), 'word')} are one sentence")
    if several:
        cluster = "set data.columns.cluster: document to treat each as one cluster"
        notes.append(f"{plural(documents[-1], 'document')} ({cluster})")
    known = any(value != OUTSIDE for columns in whole for value in columns[tag])
    return Conll(sentences, [one[0][0] for one in found], layout, notes, tag + 1 if known else None)


# ---- lines
def _lines(text: str) -> list[str]:
    if "\n" not in text:
        return text.split("\r")
    return [line.rstrip("\r") for line in text.split("\n")]


def _ends_sentence(line: str) -> bool:
    return not line.strip()


def _sentences(
    lines: Sequence[Line], splitting: Splitting, last: set[str]
) -> tuple[list[list[tuple[int, Fields]]], list[int], int]:
    """Return the words of each sentence, the number of its document, and the number of comments."""
    sentences: list[list[tuple[int, Fields]]] = []
    documents: list[int] = []
    document = num_comments = 0
    inside = False
    for number, line in lines:
        fields = splitting.fields(line)
        if line.startswith(DOCUMENT) or fields[1:2] == [DOCUMENT]:
            document, inside = document + 1, False
        elif _ends_sentence(line):
            inside = False
        elif line.startswith("#") and _is_comment(fields, splitting.width, last):
            num_comments += 1
        else:
            if not inside:
                sentences.append([])
                documents.append(document)
            inside = True
            sentences[-1].append((number, fields))
    return sentences, documents, num_comments


def _without_ranges(lines: list[Line], splitting: Splitting, last: set[str]) -> list[Line]:
    """Return the lines without CoNLL-U's ranges and empty nodes, if the first column counts the others."""
    kept = [line for line in lines if not RANGE.fullmatch((splitting.fields(line[1]) or [""])[0])]
    if splitting.width < 3 or len(kept) == len(lines):
        return lines
    sentences, *_ = _sentences(kept, splitting, last)
    return kept if _counts([[fields[0] for _, fields in sentence] for sentence in sentences]) else lines


def _is_comment(fields: Fields, width: int, last: set[str]) -> bool:
    """Return whether a line that begins with "#" is a comment; "#fun O" is a word of a tweet."""
    return len(fields) != width or not (fields[-1] in last or _is_tag(fields[-1]))


def _is_tag(text: str) -> bool:
    return text == OUTSIDE or has_prefix(text)


def _splitting(lines: Sequence[str]) -> Splitting:
    """Return the splitting that gives most lines one width; of equal ones the strictest.

    Decided by all lines: one line that is cut off, or one word that holds a tab, must not decide it.
    """
    best: tuple[int, Splitting] | None = None
    for name, split in (("tabs", _at_tabs), ("blanks", _at_single_blanks), ("blanks", _at_blanks)):
        widths = Counter(map(len, map(split, lines)))
        width, count = max(widths.items(), key=lambda item: (item[0] > 1, item[1]), default=(2, 0))
        count = count if width > 1 else 0
        if best is None or count > best[0]:
            best = count, Splitting(name, split, width)
    assert best is not None
    return best[1]


def _at_tabs(line: str) -> Fields:
    return line.rstrip(" ").split("\t")


def _at_single_blanks(line: str) -> Fields:
    """Split so that a word may be a tab; a line with an empty column is not split."""
    fields = line.rstrip(BLANKS).split(" ")
    return fields if all(fields) else [line]


def _at_blanks(line: str) -> Fields:
    return [field for field in line.replace("\t", " ").split(" ") if field]


# ---- columns
def _fault(sentence: Sequence[tuple[int, Fields]], width: int) -> str:
    """Return why a sentence cannot be read, as a clause; "" if it can."""
    for number, fields in sentence:
        if len(fields) != width or width < 2:
            came = f"{len(fields)} column" + ("" if len(fields) == 1 else "s")
            expected = "at least 2" if width < 2 else str(width)
            return f"has {came} on line {number}, where the file has {expected}"
    return ""


def _empty(sentence: Sequence[tuple[int, Fields]], word: int, tag: int) -> str:
    for number, fields in sentence:
        if not fields[word] or not fields[tag]:
            return f"has no {'tag' if fields[word] else 'word'} on line {number}"
    return ""


def _columns(sentence: Sequence[tuple[int, Fields]]) -> list[list[str]]:
    return [list(column) for column in zip(*(fields for _, fields in sentence))]


def _roles(sentences: Sequence[list[list[str]]], width: int) -> tuple[int, int]:
    """Return the places of the column of words and of that of tags, from 0."""
    word = 0
    while word < width - 2 and _numbers([columns[word] for columns in sentences]):
        word += 1
    entities, tags = _tag_columns(sentences, word, width)
    if not tags and _tag_columns(sentences, word - 1, word + 1)[0]:
        return word + 1, word  # B-ACTOR, then tom
    return word, (entities or tags[-1:] or [width - 1])[0]


def _numbers(columns: Sequence[Sequence[str]]) -> bool:
    """Return whether a column numbers the words, says where they stand, or names the sentence of each.

    The last is known by several sentences of which none has two different values; in one alone, by digits.
    """
    longer = [column for column in columns if len(column) > 1]
    clear = len(longer) > 1 or any(len(column) > 2 and re.search(r"\d", column[0]) for column in longer)
    if clear and all(len(set(column)) == 1 for column in longer):
        return True
    if _counts([[COUNT.sub("", value) for value in column] for column in columns]):
        return True
    places = [[PLACE.fullmatch(value) for value in column] for column in longer]
    return bool(places) and all(
        _increase([int(at[1]) for at in found if at]) and all(found) for found in places
    )


def _increase(numbers: Sequence[int]) -> bool:
    return all(before < after for before, after in pairwise(numbers))


def _counts(columns: Sequence[Sequence[str]]) -> bool:
    """Return whether a column counts the words of each sentence, or of the file, from 0 or 1."""
    if not any(len(column) > 1 for column in columns):
        return False
    whole = [value for column in columns for value in column]
    each = all(_is_count(column) for column in columns)
    return each or _is_count(whole)


def _is_count(values: Sequence[str]) -> bool:
    first = int(values[0] == "1")
    return all(value == str(number) for number, value in enumerate(values, start=first))


def _tag_columns(sentences: Sequence[list[list[str]]], word: int, width: int) -> tuple[list[int], list[int]]:
    """Return the columns of entities, and all columns of tags."""
    tags, entities, bare = [], [], []
    for place in range(word + 1, width):
        counted = Counter(value for columns in sentences for value in columns[place])
        total = counted.total()
        prefixed = [value for value in counted if has_prefix(value)]
        if sum(counted[value] for value in counted if not _is_tag(value)) <= MOST_WRONG * total:
            tags.append(place)
            if prefixed and not {value[2:] for value in prefixed} <= CHUNKS:
                entities.append(place)
        elif not prefixed and counted and counted.most_common(1)[0][0] == OUTSIDE:
            bare.append(place)
    # Without any prefix (IO) a column of tags is known by its many O.
    return (entities, tags) if any(entities) or not bare else (bare, [*tags, *bare])


def _described(
    sentences: Sequence[list[list[str]]], splitting: Splitting, word: int, tag: int, num_comments: int
) -> tuple[str, list[str]]:
    """Return which column is what, and a note where there was a choice."""
    width, notes = splitting.width, []
    entities, tags = _tag_columns(sentences, word, width)
    numbers = range(min(word, tag))
    roles = dict.fromkeys(numbers, "counts words or sentences") | dict.fromkeys(tags, "more tags")
    roles |= {word: "tokens", tag: "ner_tags"}
    listed = ", ".join(f"{place + 1} {roles.get(place, 'not used')}" for place in range(width))
    others = [place for place in entities if place != tag]
    if others:
        names = " or ".join(f"column_{place + 1}" for place in others)
        notes.append(f"the tags are those of column {tag + 1}; set data.columns.tags: {names} for others")
    if numbers:
        which = "column 1 counts" if len(numbers) == 1 else f"columns 1 to {len(numbers)} count"
        notes.append(f"{which} words or sentences and {'is' if len(numbers) == 1 else 'are'} left out")
    comments = f"; {plural(num_comments, 'comment line')}" if num_comments else ""
    return f"{width} columns, split at {splitting.name}: {listed}{comments}", notes
