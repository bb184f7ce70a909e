"""The score of each task, by the library of its field or counted by hand."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sacrebleu
import seqeval.metrics
from rouge_score import rouge_scorer

from tests.zoo.texts import ROWS


def score(task: str, predictions: Sequence[Any], loss: float) -> float:
    """Return the primary score of a task over the zoo's rows, in per cent; the perplexity of a loss."""
    if task == "language_modelling":
        return math.exp(loss)
    return SCORES[task](predictions, ROWS[task])


def _entities(predictions: Sequence[Any], rows: Sequence[Mapping[str, Any]]) -> float:
    return 100 * float(seqeval.metrics.f1_score([row["ner_tags"] for row in rows], list(predictions)))


def _accuracy(predictions: Sequence[Any], rows: Sequence[Mapping[str, Any]]) -> float:
    return 100 * sum(p == row["label"] for p, row in zip(predictions, rows)) / len(rows)


def _bleu(predictions: Sequence[Any], rows: Sequence[Mapping[str, Any]]) -> float:
    return float(sacrebleu.corpus_bleu(list(predictions), [[row["target"] for row in rows]]).score)


def _rouge(predictions: Sequence[Any], rows: Sequence[Mapping[str, Any]]) -> float:
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
    found = [scorer.score(row["target"], p)["rougeL"].fmeasure for p, row in zip(predictions, rows)]
    return 100 * sum(found) / len(found)


def _answers(predictions: Sequence[Any], rows: Sequence[Mapping[str, Any]]) -> float:
    return 100 * sum(_overlap(p, row["answers"]["text"][0]) for p, row in zip(predictions, rows)) / len(rows)


def _overlap(one: str, other: str) -> float:
    """Return the F1 of the words of two answers, as SQuAD's script counts it."""
    words = [re.sub(r"\b(a|an|the)\b", " ", _bare(text)).split() for text in (one, other)]
    common = (Counter(words[0]) & Counter(words[1])).total()
    return 2 * common / (len(words[0]) + len(words[1])) if common else 0.0


def _bare(text: str) -> str:
    return "".join(sign for sign in text.lower() if sign not in string.punctuation)


SCORES: Mapping[str, Callable[[Sequence[Any], Sequence[Mapping[str, Any]]], float]] = {
    "ner": _entities,
    "text_classification": _accuracy,
    "question_answering": _answers,
    "generative_question_answering": _answers,
    "summarization": _rouge,
    "translation": _bleu,
}
