"""Short reports in which one sentence is news, with a one-line summary of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from random import Random
from typing import Annotated, Any

from pipelines.corpora._distinct import distinct
from pipelines.registry.option_types import Count, Range

PLACES = (
    "harbour", "market", "station", "bridge", "mill", "school", "library", "tower", "castle", "garden",
    "theatre", "museum",
)  # fmt: skip
TOWNS = ("Arden", "Belmont", "Corley", "Dunmore", "Elster", "Fallow", "Garland", "Hollis", "Ivory", "Jarrow")
EVENTS = {  # words of a report -> word of its summary
    "flames rose from the roof": "fire",
    "the water stood knee-deep": "flood",
    "thieves had emptied the safe": "robbery",
    "the crowd cheered all night": "festival",
    "workers refused to go in": "strike",
    "two carts had run into each other": "accident",
    "the lights went out": "blackout",
    "a wall fell down": "collapse",
}
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DULL = (
    "In {town} the {place} was open as usual.",
    "Nobody was surprised that the {place} of {town} was quiet.",
    "On {day} the mayor of {town} went for a walk.",
    "The {place} in {town} has a new door.",
    "Visitors from {town} liked the {place}.",
    "On {day} it rained in {town}.",
    "They say that the {place} of {town} is old.",
)
NEWS = (
    "But on {day} {event} at the {place} of {town}.",
    "Then , on {day} , at the {place} of {town} {event}.",
    "At the {place} of {town} , however , {event} on {day}.",
)

Longest = Annotated[int, Range(at_least="shortest", at_most=1000)]


def generate(
    num_examples: int,
    seed: int,
    split: str,
    shortest: Count = 3,
    longest: Longest = 6,
) -> list[dict[str, Any]]:
    """Generate reports and their summaries: columns `source` and `target`.

    One sentence is news, at any position but the first; nothing happens in the others. Its summary is like
    "Friday: fire, mill of Corley": the kind of event must be understood; place, town and day must be copied
    from that sentence and not from the others. No report is in two splits,
    and the first n reports are the same for every `num_examples`.

    Reference: ROUGE-1 and ROUGE-L of 400 test reports: the first sentence 8.5 and 8.5, the first three
    17.8 and 16.5; the same summary for all, made of the most frequent parts in train, 28.3 and 28.3.
    Models from scratch with 2 layers of width 64, after 2,000 train reports and 8 epochs in batches of 16 at
    3e-3 (60-85 CPU-seconds; 200 test reports, one seed), ROUGE-L: bert2bert 85, T5 69, GPT-2 47.

    Args:
        num_examples: reports, all different.
        seed: of the corpus; the same on every Python version.
        split: "train", "validation" or "test".
        shortest: smallest number of sentences of a report.
        longest: largest number of sentences of a report.
    """
    random = Random(f"attnlab summarization {seed} {split}")

    def draw() -> tuple[str, dict[str, Any]]:
        source, target = _report(random, shortest, longest)
        return source, {"source": source, "target": target}

    return list(islice(distinct(iter(draw, None), split), num_examples))


def _report(random: Random, shortest: int, longest: int) -> tuple[str, str]:
    num_dull = shortest - 1 + int(random.random() * (longest - shortest + 1))
    sentences = [_pick(random, DULL).format(**_facts(random)) for _ in range(num_dull)]
    facts, event = _facts(random), _pick(random, tuple(EVENTS))
    news = _pick(random, NEWS).format(event=event, **facts)
    sentences.insert(1 + int(random.random() * num_dull), news)
    target = "{day}: {event}, {place} of {town}".format(event=EVENTS[event], **facts)
    return " ".join(sentences), target


def _facts(random: Random) -> dict[str, str]:
    return {"place": _pick(random, PLACES), "town": _pick(random, TOWNS), "day": _pick(random, DAYS)}


def _pick(random: Random, choices: Sequence[str]) -> str:
    # Only `random()` itself gives the same numbers in every Python version.
    return choices[int(random.random() * len(choices))]
