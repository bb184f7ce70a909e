"""Short reviews whose label is the writer's own opinion, among opinions of others and words like "hardly"."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from random import Random
from typing import Any

from pipelines.corpora._distinct import distinct


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ASPECTS = _words("food service room music view price staff garden wine bread")
WORDS = {
    "positive": _words("good splendid lovely charming superb fine great perfect"),
    "negative": _words("bad awful dreadful boring poor horrible weak ugly"),
}
OTHERS = ("the critics", "my sister", "our neighbours", "the papers", "some guests", "her boss")
FRAMES = {  # whose opinion it is -> forms of the sentence
    "i": ("i found the {aspect} {word}", "to me the {aspect} was {word}", "i call the {aspect} {word}"),
    "others": ("{who} found the {aspect} {word}", "to {who} the {aspect} was {word}"),
}
NEGATIONS = ("hardly", "not at all", "anything but")
JOINTS = (", but", ";", ", while", ", and")
QUESTION = "is the {aspect} good ?"


def generate(num_examples: int, seed: int, split: str, pairs: bool = False) -> list[dict[str, Any]]:
    """Generate reviews and their labels: columns `text`, `label` and, with `pairs`, `text_pair`.

    One text: two or three opinions, of which exactly one is the writer's ("i", "me"); it is the label,
    negative or positive, expressed by "hardly" and the opposite word in three of ten. The opinions of others
    are independent of it.
    Pairs: the writer has two opinions on two things, and the second text asks about one of them.

    Reference: test accuracy (seed 0): either label 50, naive Bayes over words 56; scratch models with 2
    layers of width 64 on 2,000 reviews: BERT 85 after 6 epochs, GPT-2 72 after 4.

    No text is in two splits, and the first n rows are the same for every `num_examples`.

    Args:
        num_examples: rows, all different.
        seed: of the corpus; the same on every Python version.
        split: "train", "validation" or "test".
        pairs: whether a second text asks about one of the opinions.
    """
    random = Random(f"attnlab text classification {seed} {split}")

    def draw() -> tuple[str, dict[str, Any]]:
        row = _pair(random) if pairs else _review(random)
        return row["text"], row

    return list(islice(distinct(iter(draw, None), split), num_examples))


def _review(random: Random) -> dict[str, Any]:
    aspects = _draw(random, ASPECTS, 3 if random.random() < 0.4 else 2)
    [mine] = _draw(random, aspects, 1)
    parts, label = [], ""
    for aspect in aspects:
        part, opinion = _opinion(random, aspect, "i" if aspect == mine else "others")
        parts.append(part)
        label = opinion if aspect == mine else label
    return {"text": _joined(random, parts), "label": label}


def _pair(random: Random) -> dict[str, Any]:
    opinions = {aspect: _opinion(random, aspect, "i") for aspect in _draw(random, ASPECTS, 2)}
    [about] = _draw(random, list(opinions), 1)
    text = _joined(random, [part for part, _ in opinions.values()])
    return {"text": text, "text_pair": QUESTION.format(aspect=about), "label": opinions[about][1]}


def _opinion(random: Random, aspect: str, speaker: str) -> tuple[str, str]:
    """Draw an opinion on an aspect: its text, and whether it is negative or positive."""
    [opinion] = _draw(random, list(WORDS), 1)
    is_negated = random.random() < 0.3
    tone = {"positive": "negative", "negative": "positive"}[opinion] if is_negated else opinion
    [word] = _draw(random, WORDS[tone], 1)
    if is_negated:
        word = f"{_draw(random, NEGATIONS, 1)[0]} {word}"
    [frame] = _draw(random, FRAMES[speaker], 1)
    return frame.format(who=_draw(random, OTHERS, 1)[0], aspect=aspect, word=word), opinion


def _joined(random: Random, parts: list[str]) -> str:
    text = parts[0]
    for part in parts[1:]:
        text += f"{_draw(random, JOINTS, 1)[0]} {part}"
    return f"{text} ."


def _draw(random: Random, choices: Sequence[str], count: int) -> list[str]:
    """Draw `count` distinct choices. Only `random()` gives the same numbers in every Python version."""
    left = list(choices)
    return [left.pop(int(random.random() * len(left))) for _ in range(count)]
