"""Sentence pairs of English and an invented language with other word order, genders and cases."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from random import Random
from typing import Any

from pipelines.corpora._distinct import distinct
from pipelines.registry.option_types import Share

# English noun -> stem and gender of the noun in the other language
NOUNS = {
    "king": ("reg", "m"), "wolf": ("lup", "m"), "baker": ("pan", "m"), "horse": ("cav", "m"),
    "river": ("flum", "m"), "poet": ("vat", "m"), "queen": ("regin", "f"), "star": ("stel", "f"),
    "house": ("dom", "f"), "forest": ("silv", "f"), "fox": ("vulp", "f"), "sister": ("soror", "f"),
    "letter": ("epist", "f"), "bird": ("avic", "f"), "teacher": ("magist", "m"), "boat": ("nav", "f"),
}  # fmt: skip
ADJECTIVES = {
    "old": "vet", "small": "parv", "white": "alb", "brave": "fort", "tired": "fess", "happy": "let",
    "dark": "atr", "young": "juv", "quiet": "tac", "rich": "div",
}  # fmt: skip
VERBS = {
    "sees": "vide", "loves": "ama", "follows": "sequ", "finds": "inven", "calls": "voca", "leaves": "relinq",
    "helps": "juva", "fears": "time", "paints": "ping", "praises": "lauda",
}  # fmt: skip
NAMES = ("Ana", "Bruno", "Clara", "Dario", "Elsa", "Felix", "Greta", "Hugo")
TIMES = {"today": "odie", "often": "sepe", "at night": "nocte", "in winter": "ieme", "never": "nunq"}
ARTICLES = {
    ("the", "m"): "lo", ("the", "f"): "la", ("a", "m"): "un", ("a", "f"): "una",
}  # fmt: skip
ENDINGS = {"m": ("us", "um"), "f": ("a", "am")}  # as subject, as object


def generate(
    num_examples: int, seed: int, split: str, names: Share = 0.25, adjectives: Share = 0.6, times: Share = 0.4
) -> list[dict[str, Any]]:
    """Generate sentence pairs: columns `source` (English) and `target` (an invented language).

    The other language puts the time first, the object before the verb and adjectives after their nouns;
    articles and adjectives agree in gender, nouns and adjectives have endings of case. "the old
    king loves Clara today." is "odie lo regus vetus Clara amat." No sentence is in two splits, and the
    first n pairs are the same for every `num_examples`.

    Reference: BLEU and chrF of 400 test sentences: copying the source 0.1 and 13.4; every word by
    itself through a dictionary, in English order and always masculine subjects, 0.5 and 42.3. Models from
    scratch with 2 layers of width 64, after 3,000 train sentences and 6 epochs in batches of 32 at 3e-3
    (about 30 CPU-seconds; 200 test sentences, one seed): bert2bert 84 and 94, GPT-2 45 and 73, T5 39
    and 71.

    Args:
        num_examples: sentence pairs, all different.
        seed: of the corpus; the same on every Python version.
        split: "train", "validation" or "test".
        names: share of subjects and objects that are names, which are not translated.
        adjectives: share of nouns with an adjective.
        times: share of sentences with a time.
    """
    random = Random(f"attnlab translation {seed} {split}")

    def draw() -> tuple[str, dict[str, Any]]:
        source, target = _sentence(random, names, adjectives, times)
        return source, {"source": source, "target": target}

    return list(islice(distinct(iter(draw, None), split), num_examples))


def _sentence(random: Random, names: float, adjectives: float, times: float) -> tuple[str, str]:
    subject, object_ = (_phrase(random, part, names, adjectives) for part in (0, 1))
    verb = _pick(random, tuple(VERBS))
    time = _pick(random, tuple(TIMES)) if random.random() < times else ""
    source = [subject[0], verb, object_[0], time]
    target = [TIMES.get(time, ""), subject[1], object_[1], f"{VERBS[verb]}t"]
    return " ".join(filter(None, source)) + ".", " ".join(filter(None, target)) + "."


def _phrase(random: Random, part: int, names: float, adjectives: float) -> tuple[str, str]:
    """Draw a subject (part 0) or an object (part 1) in both languages."""
    if random.random() < names:
        name = _pick(random, NAMES)
        return name, name
    noun, article = _pick(random, tuple(NOUNS)), _pick(random, ("the", "a"))
    stem, gender = NOUNS[noun]
    ending = ENDINGS[gender][part]
    target = [ARTICLES[article, gender], stem + ending]
    if random.random() >= adjectives:
        return f"{article} {noun}", " ".join(target)
    adjective = _pick(random, tuple(ADJECTIVES))
    return f"{article} {adjective} {noun}", " ".join([*target, ADJECTIVES[adjective] + ending])


def _pick(random: Random, choices: Sequence[str]) -> str:
    # Only `random()` itself gives the same numbers in every Python version.
    return choices[int(random.random() * len(choices))]
