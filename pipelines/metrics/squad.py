"""Exact match and token F1 of extracted answers, as the official SQuAD 1.1 and 2.0 scripts define them."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from pipelines.errors import UserError
from pipelines.metrics.base import Metric, mean, ratio
from pipelines.metrics.languages import is_unspaced, note_on

Answer = str | Mapping[str, Any]
Measure = Literal["exact_match", "f1"]
Version = Literal["1.1", "2.0"]
Subset = Literal["all", "answerable", "unanswerable"]
ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


class Squad(Metric):
    """Mean over questions of the best agreement with any gold answer (Rajpurkar 2016, 2018).

    A prediction is the text of the answer, or a mapping that holds it as "text"; "" means no answer.
    A reference is a list of gold texts, or a mapping that holds it as "text"; in version 2.0 an empty list
    makes the question unanswerable.

    Args:
        measure: "exact_match" or "f1".
        version: "1.1" or "2.0". They differ on unanswerable questions, and on answers that are empty
            after normalization: two of them have F1 0 in 1.1, 100 in 2.0.
        subset: the questions that count: "all", or those with or without an answer (2.0).
    """

    columns = ("value", "count")

    def __init__(
        self,
        measure: Measure = "f1",
        version: Version = "1.1",
        subset: Subset = "all",
    ) -> None:
        options = {
            "measure": (measure, get_args(Measure)),
            "version": (version, get_args(Version)),
            "subset": (subset, get_args(Subset)),
        }
        for option, (came, accepted) in options.items():
            if came not in accepted:
                raise UserError("metric squad", f"unknown {option}", came, ", ".join(accepted))
        self.measure, self.version, self.subset = measure, version, subset
        self.name = measure if subset == "all" else f"{measure}_{subset}"

    @property
    def signature(self) -> str:
        return f"squad|version:{self.version}|measure:{self.measure}|subset:{self.subset}"

    def statistics(self, prediction: Answer, reference: Sequence[str] | Mapping[str, Any]) -> np.ndarray:
        golds = gold_texts(reference)
        if not self._counts(golds):
            return np.zeros(2)
        return np.array([self._best(prediction, golds), 1.0])

    def score(self, sums: np.ndarray) -> np.ndarray:
        return ratio(sums, 100)

    def library_score(self, predictions: Sequence[Answer], references: Sequence[Any]) -> float:
        pairs = [(p, gold_texts(r)) for p, r in zip(predictions, references, strict=True)]
        return mean([self._best(p, golds) for p, golds in pairs if self._counts(golds)], 100)

    def note(self, references: Sequence[Sequence[str] | Mapping[str, Any]]) -> str | None:
        if self.measure == "exact_match":
            return None
        texts = [golds for golds in map(gold_texts, references) if golds]
        lost = {text: is_unspaced(text) for golds in texts for text in golds}
        return note_on(
            texts, lost, "{} are in a script without blanks, so that a whole answer counts as one word"
        )

    def _counts(self, golds: Sequence[str]) -> bool:
        return self.subset == "all" or (self.subset == "answerable") == bool(golds)

    def _best(self, prediction: Answer, golds: Sequence[str]) -> float:
        text = prediction if isinstance(prediction, str) else prediction["text"]
        if self.version == "2.0":
            golds = [gold for gold in golds if normalize(gold)] or [""]
        if not golds:
            raise UserError(
                "metric squad 1.1", "a question has no gold answer", accepted='set version: "2.0", or drop it'
            )
        if self.measure == "exact_match":
            return max(float(normalize(text) == normalize(gold)) for gold in golds)
        return max(self._f1(normalize(text).split(), normalize(gold).split()) for gold in golds)

    def _f1(self, predicted: Sequence[str], gold: Sequence[str]) -> float:
        if self.version == "2.0" and not (predicted and gold):
            return float(predicted == gold)
        same = sum((Counter(predicted) & Counter(gold)).values())
        if same == 0:
            return 0.0
        precision, recall = same / len(predicted), same / len(gold)
        return 2 * precision * recall / (precision + recall)


def gold_texts(reference: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """Return the gold answers of a question; none where it is unanswerable."""
    return list(reference["text"] if isinstance(reference, Mapping) else reference)


def normalize(text: str) -> str:
    """Return a text in lower case, without ASCII punctuation and articles, with single spaces.

    The order of these steps is that of the official scripts.
    """
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())
