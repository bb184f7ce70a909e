"""The most influential examples with the predictions of both arms, word by word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.report.data import Row
from pipelines.report.examples import Breakdown, Example

LONGEST = 1200  # characters of a text
OUTSIDE = "O"  # the label of words outside of everything


@dataclass(frozen=True)
class Word:
    """A piece of text between spaces, or a whole text; `wrong` where its label is not the reference."""

    text: str
    wrong: bool = False


@dataclass(frozen=True)
class ShownExample:
    """One example as named boxes of words: input, reference, baseline, arm."""

    id: str
    influence: float
    seed: int
    boxes: tuple[tuple[str, list[Word]], ...]


@dataclass(frozen=True)
class ShownComparison:
    """Examples of one comparison under their headings."""

    row: Row
    ranked: list[tuple[str, list[ShownExample]]]


def show(breakdown: Breakdown) -> ShownComparison:
    """Return the best and worst examples of a comparison; `ranked` is empty without any influence."""
    ranked = (
        ("Moves the difference most towards the arm", breakdown.best),
        ("Moves it most towards the baseline", breakdown.worst),
    )
    shown = [(title, [_example(one, breakdown.row) for one in examples]) for title, examples in ranked]
    return ShownComparison(breakdown.row, [(title, examples) for title, examples in shown if examples])


def _example(example: Example, row: Row) -> ShownExample:
    boxes = [
        ("reference", words(example, example.reference, marked=False)),
        (row.baseline, words(example, example.baseline)),
        (row.arm, words(example, example.arm)),
    ]
    if isinstance(example.shown, str):
        boxes.insert(0, ("input", [_whole(example.shown)]))
    return ShownExample(example.id, example.influence, example.seed, tuple(boxes))


def words(example: Example, labels: object, marked: bool = True) -> list[Word]:
    """Return labels word by word, wrong ones marked; anything else as one whole text."""
    reference = example.reference
    if not (isinstance(labels, list) and isinstance(reference, list) and isinstance(example.baseline, list)):
        return [_whole(labels)]
    texts: Sequence[object] = [None] * len(labels)
    if isinstance(example.shown, list) and len(example.shown) == len(labels):
        texts = example.shown
    return [
        _labelled(text, label, marked and label != right)
        for text, label, right in zip(texts, labels, reference)
    ]


def _labelled(text: object, label: object, wrong: bool) -> Word:
    outside = label == OUTSIDE and not wrong
    if text is None:  # the text may not be shown: a dot keeps the place of a word without a label
        return Word("·" if outside else str(label), wrong)
    return Word(str(text) if outside else f"{text}/{label}", wrong)


def _whole(content: object) -> Word:
    text = " | ".join(map(str, content)) if isinstance(content, list) else str(content)
    return Word(text if len(text) <= LONGEST else f"{text[:LONGEST]}…")
