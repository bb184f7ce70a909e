"""What tasks share that answer a question about a text, whether they find the answer or write it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from pipelines.metrics.base import Metric
from pipelines.metrics.squad import Squad
from pipelines.tasks.base import Example, Trivial


def asked_amiss(example: Example) -> str | None:
    """What is wrong with the question or the context of a row, as a clause."""
    for name in ("question", "context"):
        text = example[name]
        if not isinstance(text, str):
            return f"has a {name} that is no text: {text!r}"
        if not text.strip():
            return f"has an empty {name}"
    return None


def cluster_of(example: Example) -> str:
    """The title, else the context: questions about one text share what makes it hard."""
    named = example.get("cluster") or example.get("title")
    return str(named or hashlib.sha256(example["context"].encode("utf-8", "surrogatepass")).hexdigest())


def squad_metrics(unanswerable: bool) -> dict[str, Metric]:
    """F1 and exact match by SQuAD 1.1; by 2.0, with those of each kind of question, where some have no
    answer."""
    if not unanswerable:
        return {"f1": Squad("f1"), "exact_match": Squad("exact_match")}
    made = [Squad(measure, "2.0") for measure in ("f1", "exact_match")]
    made += [Squad("f1", "2.0", "answerable"), Squad("exact_match", "2.0", "unanswerable")]
    return {metric.name: metric for metric in made}


def least_answers(unanswerable: bool) -> Mapping[str, Trivial]:
    """What could be answered without reading; "" where there may be no answer."""
    longest = {"longest word": lambda example: max(example["context"].split(), key=len)}
    return longest | ({"never an answer": lambda example: ""} if unanswerable else {})


def as_list(value: Any) -> list[Any]:
    """A cell that holds one value, several or none, as a list."""
    return value if isinstance(value, list) else [] if value is None else [value]
