"""Short reports of who did what, where and when, with questions that one sentence answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from random import Random
from typing import Annotated, Any

from pipelines.corpora._distinct import distinct
from pipelines.registry.option_types import Range, Share


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST_NAMES = _words("Anna Bruno Clara David Elena Felix Greta Hugo Iris Jonas Karla Leo Mira Zoë José")
LAST_NAMES = _words(
    "Lopez Novak Silva Weber Moreau Rossi Tanaka Petrov Müller Andre\u0301"
)  # one in two characters
PLACES = _words("Rome Oslo Lima Cairo Quito Delhi Kyoto Malmö Porto Accra Sofia Perth")
DAYS = _words("monday tuesday wednesday thursday friday saturday sunday")
VERBS = _words("sang danced slept painted cooked swam")
FILLERS = ("nobody knew why", "it was cold", "people say \U0001f600", "that is all", "the rest is unknown")
QUESTIONS = {  # kind of answer -> forms of the question
    "who": ("who {verb} ?", "which person {verb} ?"),
    "where": ("where was it that someone {verb} ?", "in which town was the one who {verb} ?"),
    "when": ("when was it that someone {verb} ?", "on which day was it that someone {verb} ?"),
}
QUESTIONS_PER_REPORT = 2

NumFacts = Annotated[int, Range(at_least=1, at_most=5)]


def generate(
    num_examples: int,
    seed: int,
    split: str,
    num_facts: NumFacts = 2,
    unanswerable: Share = 0.0,
) -> list[dict[str, Any]]:
    """Generate questions about reports: columns `question`, `context`, `answers`, `answer_starts`, `title`.

    A report has `num_facts` sentences, each of who did something where and when, in varying order. A question
    names what was done and asks for one of the three, so that `num_facts` candidates have the right kind and
    only the verb of the question selects one. There are two questions on each report, with the same title.
    Names have one or two words, some with accents (composed and not) and characters beyond 16 bits, to test
    character offsets.

    Reference: test F1 (seed 0, 300 questions): the longest word 15, the first name 17, the first one
    of the right kind 45. Scratch models, 2 layers of width 64, after 400 steps of 16 at 2e-3: BERT
    48, GPT-2 41, T5 52.

    No report is in two splits, and the first n rows are the same for every `num_examples`.

    Args:
        num_examples: questions.
        seed: of the corpus; the same on every Python version.
        split: "train", "validation" or "test".
        num_facts: sentences of a report with a fact, 1 to 5.
        unanswerable: share of questions about a verb that is not in the report, which have no answer.
    """
    random = Random(f"attnlab question answering {seed} {split}")

    def draw() -> tuple[str, tuple[str, list[tuple[str, str]]]]:
        context, facts = _report(random, num_facts)
        asked = [_question(random, facts, unanswerable) for _ in range(QUESTIONS_PER_REPORT)]
        return context, (context, asked)

    reports = enumerate(distinct(iter(draw, None), split), start=1)
    rows = (row for number, (context, asked) in reports for row in _rows(number, context, dict(asked)))
    return list(islice(rows, num_examples))


def _rows(number: int, context: str, asked: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The questions on one report, each with its answer."""
    for question, answer in asked.items():
        start = context.index(f" {answer} ") + 1 if answer else 0
        yield {
            "question": question,
            "context": context.strip(),
            "answers": [answer] if answer else [],
            "answer_starts": [start - 1] if answer else [],
            "title": f"report {number}",
        }


def _report(random: Random, num_facts: int) -> tuple[str, dict[str, dict[str, str]]]:
    """Draw a report between two spaces, and its facts by verb; all names in it differ."""
    verbs, places, days = (_draw(random, words, num_facts) for words in (VERBS, PLACES, DAYS))
    firsts, lasts = _draw(random, FIRST_NAMES, num_facts), _draw(random, LAST_NAMES, num_facts)
    facts, sentences = {}, []
    for verb, place, day, first, last in zip(verbs, places, days, firsts, lasts):
        who = f"{first} {last}" if random.random() < 0.4 else first
        facts[verb] = {"who": who, "where": place, "when": day}
        sentence = f"{who} {verb} in {place} on {day}" if random.random() < 0.6 else None
        sentences.append(sentence or f"on {day} {who} {verb} in {place}")
        if random.random() < 0.3:
            sentences.append(FILLERS[int(random.random() * len(FILLERS))])
    return f" {' . '.join(sentences)} . ", facts


def _question(random: Random, facts: dict[str, dict[str, str]], unanswerable: float) -> tuple[str, str]:
    """Draw a question and its answer; "" if there is none."""
    kind = _draw(random, tuple(QUESTIONS), 1)[0]
    form = _draw(random, QUESTIONS[kind], 1)[0]
    if random.random() < unanswerable:
        [verb] = _draw(random, tuple(verb for verb in VERBS if verb not in facts), 1)
        return form.format(verb=verb), ""
    [verb] = _draw(random, tuple(facts), 1)
    return form.format(verb=verb), facts[verb][kind]


def _draw(random: Random, choices: tuple[str, ...], count: int) -> list[str]:
    """Draw `count` choices, each at most once as long as there are enough.

    Only `random()` itself gives the same numbers in every Python version.
    """
    left, drawn = list(choices), []
    for _ in range(count):
        left = left or list(choices)
        drawn.append(left.pop(int(random.random() * len(left))))
    return drawn
