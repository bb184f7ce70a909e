"""Best and worst examples with what both arms said, where the data may be shown."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from pipelines.report import format as fmt
from pipelines.report.examples import Breakdown, Example

LONGEST = 1200  # characters of a text


def render(breakdown: Breakdown) -> str:
    """Examples of one comparison, folded under its name; empty when no example moves the difference."""
    parts = [
        _ranked("Moves the difference most towards the arm", breakdown.best, breakdown),
        _ranked("Moves it most towards the baseline", breakdown.worst, breakdown),
    ]
    row = breakdown.row
    name = f"{escape(row.arm)} on {escape(row.cell)}"
    body = "".join(parts)
    return f'<details class="texts"><summary>{name}</summary>{body}</details>' if body else ""


def _ranked(title: str, examples: Sequence[Example], breakdown: Breakdown) -> str:
    shown = "".join(_example(example, breakdown) for example in examples)
    return f"<h3>{title}</h3>{shown}" if shown else ""


def _example(example: Example, breakdown: Breakdown) -> str:
    row = breakdown.row
    moved = fmt.signed(example.influence, row.places + 2)
    about = f"{escape(example.id)} · {moved} {escape(row.metric)} · seed {example.seed}"
    source = _box("input", _plain(example.shown)) if isinstance(example.shown, str) else ""
    boxes = (
        _box("reference", _said(example, example.reference, marked=False)),
        _box(row.baseline, _said(example, example.baseline)),
        _box(row.arm, _said(example, example.arm)),
    )
    return f'<p class="note">{about}</p><div class="pair">{source}{"".join(boxes)}</div>'


def _box(name: str, body: str) -> str:
    return f'<div><h4>{escape(name)}</h4><p class="text">{body}</p></div>'


def _said(example: Example, said: Any, marked: bool = True) -> str:
    """Labels word by word, wrong ones marked; anything else as its text."""
    if (
        not isinstance(said, list)
        or not isinstance(example.reference, list)
        or not isinstance(example.baseline, list)
    ):
        return _plain(said)
    words = (
        example.shown
        if isinstance(example.shown, list) and len(example.shown) == len(said)
        else [None] * len(said)
    )
    return " ".join(
        _label(word, label, marked and label != right)
        for word, label, right in zip(words, said, example.reference)
    )


def _label(word: Any, label: Any, wrong: bool) -> str:
    if word is None:  # labels alone: those outside of everything shrink to a dot
        text = "·" if label == "O" and not wrong else str(label)
    else:
        text = str(word) if label == "O" and not wrong else f"{word}/{label}"
    return f"<mark>{escape(text)}</mark>" if wrong else escape(text)


def _plain(said: Any) -> str:
    text = " | ".join(map(str, said)) if isinstance(said, list) else str(said)
    return escape(text if len(text) <= LONGEST else f"{text[:LONGEST]}…")
