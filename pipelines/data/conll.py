"""CoNLL text: one word per line with its tags, and a blank line between sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

Split = Callable[[str], list[str]]  # a line to its columns
TAG_PREFIXES = frozenset("BIESLU")  # of IOB1, IOB2, IOBES and BILOU


def parse(text: str) -> tuple[list[dict[str, Any] | str], list[int], list[str]]:
    """Return the sentences of a CoNLL file, the first line of each, and notes on how it was read.

    A sentence has the columns `tokens` (first), `ner_tags` (last, as IOB2) and `column_2` ... for those
    between, plus `document` where -DOCSTART- lines divide the file. For a sentence that cannot be read, the
    list has the reason instead, a clause. Columns are split at tabs if the file has any, else at white space.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    split = _splitter(lines)
    width = _usual_width(lines, split)
    sentences: list[dict[str, Any] | str] = []
    first_lines: list[int] = []
    notes: list[str] = []
    words: list[tuple[int, list[str]]] = []
    document, first_line = 0, 0
    for number, line in enumerate([*lines, ""], start=1):
        if line.startswith("-DOCSTART-"):
            document += 1
        elif line.strip() and not _is_comment(line, split, width):
            first_line = first_line if words else number
            words.append((number, split(line)))
        elif not line.strip() and words:
            sentences.append(_sentence(words, width, document))
            first_lines.append(first_line)
            words = []
    notes += _to_iob2([s["ner_tags"] for s in sentences if isinstance(s, dict)])
    if document > 1:
        notes.append(
            f"{document} documents (set data.columns.cluster: document to treat each as one cluster)"
        )
    else:
        for sentence in sentences:
            if isinstance(sentence, dict):
                del sentence["document"]
    return sentences, first_lines, notes


def _splitter(lines: Sequence[str]) -> Split:
    data = [line for line in lines if line.strip() and not line.startswith(("#", "-DOCSTART-"))]
    by_tab = any("\t" in line for line in data)
    return (lambda line: line.split("\t")) if by_tab else str.split


def _usual_width(lines: Sequence[str], split: Split) -> int:
    """Return the most frequent number of columns: a truncated last line must not define it."""
    widths = Counter(
        len(split(line)) for line in lines if line.strip() and not line.startswith(("#", "-DOCSTART-"))
    )
    return widths.most_common(1)[0][0] if widths else 2


def _is_comment(line: str, split: Split, width: int) -> bool:
    """Return whether a line that begins with "#" is a comment; "#fun O" is a word of a tweet."""
    if not line.startswith("#"):
        return False
    fields = split(line)
    return len(fields) != width or not _is_tag(fields[-1])


def _is_tag(text: str) -> bool:
    return text == "O" or (text[:1] in TAG_PREFIXES and text[1:2] == "-")


def _sentence(words: list[tuple[int, list[str]]], width: int, document: int) -> dict[str, Any] | str:
    for number, fields in words:
        if len(fields) != width or width < 2:
            came = f"{len(fields)} column" + ("" if len(fields) == 1 else "s")
            expected = "at least 2" if width < 2 else str(width)
            return f"has {came} on line {number}, where the file has {expected}"
    columns = list(zip(*(fields for _, fields in words)))
    between = {f"column_{place}": list(column) for place, column in enumerate(columns[1:-1], start=2)}
    return {"tokens": list(columns[0]), **between, "ner_tags": list(columns[-1]), "document": str(document)}


def _to_iob2(sentences: list[list[str]]) -> list[str]:
    """Rewrite IOB1, IOBES and BILOU tags as IOB2, in place; a mixture is left as it is, with a note.

    IOB1 uses B- only where an entity touches one of its own type. So a file is IOB1 if every B- is such a
    case and some entity begins with I-. IOB2 begins every entity with B-.
    """
    prefixes = {tag[0] for tags in sentences for tag in tags if tag[1:2] == "-"}
    if prefixes & set("ESLU"):
        rename = {"S": "B", "U": "B", "E": "I", "L": "I"}
        for tags in sentences:
            tags[:] = [rename.get(tag[0], tag[0]) + tag[1:] if tag[1:2] == "-" else tag for tag in tags]
        return [f"{'IOBES' if prefixes & set('ES') else 'BILOU'} tags were read as IOB2"]
    loose = iob1_only = iob2_only = 0
    for tags in sentences:
        for before, tag in zip(["O", *tags], tags):
            touches = before[1:] == tag[1:] and before != "O"
            loose += tag[:2] == "I-" and not touches
            iob2_only += tag[:2] == "B-" and not touches
            iob1_only += tag[:2] == "B-" and touches
    if not loose:
        return []
    if iob2_only:
        return [
            f"{loose} entities begin with I-, {iob1_only + iob2_only} with B-: the tags were left as they are"
        ]
    for tags in sentences:
        tags[:] = [
            "B" + tag[1:] if tag[:2] == "I-" and before[1:] != tag[1:] else tag
            for before, tag in zip(["O", *tags], list(tags))
        ]
    return ["IOB1 tags were read as IOB2"]
