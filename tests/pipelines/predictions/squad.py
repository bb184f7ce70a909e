"""Questions, answers, and a finished run that has answered them."""

from __future__ import annotations

import re
import string
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from pipelines.config.load import run_from_dict
from pipelines.metrics.squad import Squad
from pipelines.runs import identity
from tests.pipelines import stored_ablation as made

WORDS = ["the", "north", "gate", "of", "York", "a", "stone", "bridge", "in", "1805,"]


def gold(count: int) -> list[list[str]]:
    """Return the accepted answers of each question."""
    chance = np.random.default_rng(4)
    return [[" ".join(chance.choice(WORDS, int(chance.integers(1, 5))))] for _ in range(count)]


def answers(wanted: list[list[str]], share: float, seed: int) -> list[str]:
    """Return answers of which a share of the words is missing."""
    chance = np.random.default_rng(seed)
    return [" ".join(w for w in one[0].split() if chance.random() > share) for one in wanted]


def official_f1(predictions: list[str], references: list[list[str]]) -> float:
    """Return F1 of SQuAD 1.1, written from the definition of the official script."""

    def words(text: str) -> list[str]:
        bare = "".join(sign for sign in text.lower() if sign not in string.punctuation)
        return re.sub(r"\b(a|an|the)\b", " ", bare).split()

    def one(prediction: str, reference: str) -> float:
        got, wanted = words(prediction), words(reference)
        same = sum((Counter(got) & Counter(wanted)).values())
        return 2 * same / (len(got) + len(wanted)) if same else 0.0

    return 100 * float(np.mean([max(one(p, r) for r in refs) for p, refs in zip(predictions, references)]))


def run(path: Path, wanted: list[list[str]], given: list[str]) -> Path:
    """Write a finished run of question answering on these questions."""
    values = made.config().run_config("toy", "stock", 1).to_dict()
    config = run_from_dict({**values, "task": {"name": "question_answering"}})
    ids = [f"q{number}" for number in range(len(wanted))]
    predictions = [{"text": text, "start": 0, "end": 1, "score": 0.5} for text in given]
    metrics = {"f1": Squad("f1"), "exact_match": Squad("exact_match")}
    evaluation = SimpleNamespace(
        ids=ids,
        clusters=ids,
        predictions=predictions,
        references=wanted,
        metrics=metrics,
        statistics={name: metric.table(predictions, wanted) for name, metric in metrics.items()},
    )
    made.finish(path, config, identity.describe(config), evaluation=evaluation)
    return path
