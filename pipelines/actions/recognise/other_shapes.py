"""Shapes of rows that people have and no task reads: what is wrong, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipelines.actions.recognise.columns import LABELS, Columns
from pipelines.data.tag_schemes import OUTSIDE, has_prefix

Refusal = tuple[str, str, str]  # the task, what is wrong as a clause, what to do
CONVERT = "docs/data.md (Named entities in other shapes) has lines that convert it"


def refusals(columns: Columns) -> Iterator[Refusal]:
    """Yield why rows of a shape cannot be read, the most telling first."""
    for name in columns.there:
        if all(map(_are_spans, columns.there[name])) and any(columns.there[name]):
            yield "ner", f"{name} says at which characters entities stand, and ner reads words", CONVERT
    for name in columns.words:
        texts = columns.there[name]
        if not _are_tags([tag for text in texts for tag in text.split()]):
            continue
        if any(" " in text for text in texts):
            what = f"{name} holds the tags of a sentence as one text, and ner reads a list of them"
            yield "ner", what, CONVERT
        elif any(other != name and _are_words(columns.there[other]) for other in columns.words):
            yield "ner", f"{name} holds the tag of one word in each row, and ner reads sentences", CONVERT
    for name in columns.named(*LABELS):
        found = set(map(str, columns.there[name]))
        if len(found) == 1 and len(columns.rows) > 1 and columns.all_are(name, str, int, bool):
            what = f"{name} has one value ({found.pop()}), so that there is nothing to tell apart"
            yield "text_classification", what, "add rows with other labels, or name another task as --task"


def _are_spans(value: object) -> bool:
    """Return whether a value is a list of [start, end, type], or of objects with start and end."""
    if not isinstance(value, list):
        return False
    return all(
        (isinstance(one, list) and len(one) == 3 and {*map(type, one[:2])} == {int})
        or (isinstance(one, dict) and {"start", "end"} <= one.keys())
        for one in value
    )


def _are_tags(values: Sequence[str]) -> bool:
    found = set(values)
    return OUTSIDE in found and len(found) > 1 and all(map(has_prefix, found - {OUTSIDE}))


def _are_words(values: Sequence[str]) -> bool:
    return all(len(value.split()) == 1 for value in values)
