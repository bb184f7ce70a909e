"""The rows and the scores of tasks that answer a question about a text."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pipelines.metrics.base import Metric
from pipelines.metrics.squad import Measure, Squad, Subset
from pipelines.tasks.base import Baseline, Example, Task

MEASURES: Mapping[str, tuple[Measure, Subset]] = {
    "f1": ("f1", "all"),
    "exact_match": ("exact_match", "all"),
    "f1_answerable": ("f1", "answerable"),
    "exact_match_unanswerable": ("exact_match", "unanswerable"),
}


class QuestionTask(Task):
    """Answer questions about a text, whether the answer is found in the text or written.

    Rows have a `question`, a `context` and `answers`, a list of texts any of which is correct. With
    `unanswerable` the list may be empty, and scores follow SQuAD 2.0 instead of 1.1.
    """

    primary: ClassVar[str] = "f1"
    metric_names: ClassVar[tuple[str, ...]] = ("f1", "exact_match")
    optional_metrics: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "unanswerable": ("f1_answerable", "exact_match_unanswerable")
    }
    unanswerable: bool

    # ---- rows
    def check(self, example: Example) -> str | None:
        for name in ("question", "context"):
            text = example[name]
            if not isinstance(text, str):
                return f"has a {name} that is not text: {text!r}"
            if not text.strip():
                return f"has an empty {name}"
        if example.get("answers") is None:
            return None
        reason = self.check_answers(example)
        if reason is None and not as_list(example["answers"]) and not self.unanswerable:
            return "has no answer (set task.unanswerable: true if that is intended)"
        return reason

    @abstractmethod
    def check_answers(self, example: Example) -> str | None:
        """Return why the answers of a row cannot be used, as a clause; None if they can."""

    def cluster(self, example: Example) -> str:
        """Return the title, else a hash of the context: questions about one text are equally hard."""
        named = example.get("cluster") or example.get("title")
        return str(named or hashlib.sha256(example["context"].encode("utf-8", "surrogatepass")).hexdigest())

    # ---- scoring
    def metric(self, name: str) -> Metric:
        measure, subset = MEASURES[name]
        return Squad(measure, "2.0" if self.unanswerable else "1.1", subset)

    def baselines(self, train: Sequence[Example]) -> Mapping[str, Baseline]:
        """Return answers that need no understanding; "" where questions may have no answer."""
        longest = {"longest word": lambda example: max(example["context"].split(), key=len)}
        return longest | ({"never an answer": lambda example: ""} if self.unanswerable else {})

    def reference(self, example: Example) -> list[str]:
        return as_list(example["answers"])


def as_list(value: Any) -> list[Any]:
    """Return a cell that holds one value, several or none as a list."""
    return value if isinstance(value, list) else [] if value is None else [value]
