"""English-like sentences in which only the context tells whether a name is a person, place or company."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import islice
from random import Random
from typing import Any, TypeVar

from pipelines.corpora._distinct import distinct
from pipelines.registry.option_types import Share

Choice = TypeVar("Choice")

TYPES = ("PER", "LOC", "ORG")
SHORTEST, LONGEST = 5, 30  # words of a sentence


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES = _words(
    """
    Jordan Lincoln Chelsea Austin Madison Hudson Florence Sydney Denver Victoria Carson Houston
    Orlando Paris Savannah Phoenix Dallas Geneva Camden Lourdes Raleigh Macon Salem Trenton Vernon
    Warren Wells Fargo Morgan Stanley Dunhill Mercer Harley Boeing Ashton Barclay Chester Bradford
    Stafford Clifton Milton Kent Preston
    """
)
UNSEEN_NAMES = _words(  # never in train
    """
    Lawton Bristow Halden Merton Carver Ashford Denholm Sterling Walden Harlow Benton Marlow Stanton
    Colby Fairfax Hampton Linden Radley Selby Thornton
    """
)
BEFORE = {  # words that decide the type of the next name
    "PER": _words("doctor singer captain nephew widow poet uncle senator"),
    "LOC": _words("streets river suburbs mayor airport hills map weather"),
    "ORG": _words("shares lawyers profits employees chairman logo products bonds"),
}
AFTER = {  # words that decide the type of the name before them
    "PER": _words("smiled married whispered slept wept danced apologised sang"),
    "LOC": _words("flooded froze lies bordered stretches burned borders awoke"),
    "ORG": _words("merged hired invests sells acquired patented exports advertised"),
}
OPENINGS = (
    "today the",
    "the old",
    "we saw the",
    "they spoke of the",
    "yesterday the famous",
    "nobody knew the",
)
FILLERS = (
    "it seems",
    "in the end",
    "as many said",
    "after a long winter",
    "according to the report",
    "once again",
    "on that quiet morning",
    "for some reason",
    "if the papers are right",
    "of course",
    "near the end of the year",
    "without any warning",
)
ENDINGS = ("again", "last week", "for the third time", "in silence", "before noon", "too")
NUM_CLAUSES, NUM_FILLERS = (1, 1, 1, 2, 2, 3), (0, 0, 1, 1, 2)  # drawn uniformly
JOINTS = (", while", ", and", ";", ", but", ", because")


def generate(
    num_examples: int,
    seed: int,
    split: str,
    ambiguity: Share = 0.9,
    unseen: Share = 0.2,
    noise: Share = 0.02,
) -> list[dict[str, Any]]:
    """Generate sentences with IOB2 tags: columns `tokens` and `tags`, types PER, LOC and ORG.

    A sentence has one to three clauses with one name each. In its clause, before the name or after it and
    up to a dozen words away, one word decides its type ("the lawyers of , as many said , Jordan"); such words
    of other clauses belong to other names. No sentence is in two splits, and the first n
    sentences are the same for every `num_examples`.

    Reference: test F1 of 2,000 train and 400 test sentences: the most frequent tag of each word 32-35
    (seeds 0-2); a BERT from scratch with 2 layers of width 64 about 71 after 8 epochs at 2e-3, in 10 s on one
    CPU core. With 5,000 sentences, width 128 and 10 epochs it is 87.

    Args:
        num_examples: sentences, all different.
        seed: of the corpus; the same on every Python version.
        split: "train", "validation" or "test".
        ambiguity: share of names without a word of their type beside them ("Jordan", not "Lake Jordan").
        unseen: share of names in validation and test that are not in train.
        noise: share of names with a random tag, so that no model reaches 100.
    """
    random = Random(f"attnlab ner {seed} {split}")  # a text seed is hashed by SHA-512, on every machine
    unseen_here = unseen if split != "train" else 0.0

    def draw() -> tuple[str, dict[str, Any]]:
        tokens, tags = _sentence(random, ambiguity, unseen_here, noise)
        while not SHORTEST <= len(tokens) <= LONGEST:
            tokens, tags = _sentence(random, ambiguity, unseen_here, noise)
        return " ".join(tokens), {"tokens": tokens, "tags": tags}

    return list(islice(distinct(iter(draw, None), split), num_examples))


def _sentence(random: Random, ambiguity: float, unseen: float, noise: float) -> tuple[list[str], list[str]]:
    tokens: list[str] = []
    tags: list[str] = []
    for clause in range(_pick(random, NUM_CLAUSES)):
        parts = [("O", _pick(random, JOINTS))] if clause else []
        parts += _clause(random, ambiguity, unseen, noise)
        for tag, text in parts:
            words = text.split()
            tokens += words
            tags += ["O"] * len(words) if tag == "O" else [f"B-{tag}", *[f"I-{tag}"] * (len(words) - 1)]
    return [*tokens, "."], [*tags, "O"]


def _clause(random: Random, ambiguity: float, unseen: float, noise: float) -> list[tuple[str, str]]:
    """Draw (tag, words) in order: a name, the word that decides its type, and fillers between them."""
    name = _pick(random, UNSEEN_NAMES if random.random() < unseen else NAMES)
    kind = _kind(random, name)
    tag = _pick(random, TYPES) if random.random() < noise else kind
    entity = (tag, _entity(random, name, kind, ambiguity))
    between = [("O", f", {_pick(random, FILLERS)} ,") for _ in range(_pick(random, NUM_FILLERS))]
    if random.random() < 0.5:
        return [("O", f"{_pick(random, OPENINGS)} {_pick(random, BEFORE[kind])} of"), *between, entity]
    ending = [("O", _pick(random, ENDINGS))] if random.random() < 0.5 else []
    return [entity, *between, ("O", _pick(random, AFTER[kind])), *ending]


def _kind(random: Random, name: str) -> str:
    """Draw the type of a mention: with probability 0.4 the name's own most frequent one, else any."""
    favourite = TYPES[hashlib.sha256(name.encode()).digest()[0] % len(TYPES)]
    return favourite if random.random() < 0.4 else _pick(random, TYPES)


def _entity(random: Random, name: str, kind: str, ambiguity: float) -> str:
    if random.random() < ambiguity:
        second = _pick(random, NAMES)
        return f"{name} {second}" if random.random() < 0.25 and second != name else name
    return {"PER": f"Mrs {name}", "LOC": f"Lake {name}", "ORG": f"{name} Bank"}[kind]


def _pick(random: Random, choices: Sequence[Choice]) -> Choice:
    # Only `random()` itself gives the same numbers in every Python version.
    return choices[int(random.random() * len(choices))]
