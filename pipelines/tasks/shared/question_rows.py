"""The rows and the scores of tasks that answer a question about a text."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pipelines.metrics.base import Metric
from pipelines.metrics.squad import Measure, Squad, Subset
from pipelines.tasks.base import Baseline, Column, Example, Task
from pipelines.tasks.shared.written_text import text_of

MEASURES: Mapping[str, tuple[Measure, Subset]] = {
    "f1": ("f1", "all"),
    "exact_match": ("exact_match", "all"),
    "f1_answerable": ("f1", "answerable"),
    "exact_match_unanswerable": ("exact_match", "unanswerable"),
}
TRUTHS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}
IMPOSSIBLE = Column(
    "is_impossible", "true: the question has no answer (SQuAD 2.0)", required=False, is_target=True
)


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
    def spelled(self, example: Example) -> Example:
        """Return a row with lists of answers, empty ones where there is no answer.

        Data sets say that by null, an empty list, an empty text or `is_impossible`; what stands beside
        `is_impossible: true` is a plausible answer, not a correct one.
        """
        if "answers" not in example:
            return example
        texts = as_list(example["answers"])
        starts = [_whole(start) for start in as_list(example.get("answer_starts"))]
        if all(text is None or text == "" for text in texts):
            texts, starts = [], []
        elif len(starts) == len(texts) or "answer_starts" not in example:
            starts = [start for text, start in zip(texts, starts) if text not in (None, "")]
            texts = [text for text in texts if text not in (None, "")]
        found = dict(example)
        impossible = found.pop("is_impossible", None)
        if impossible is not None:
            found["is_impossible"] = TRUTHS.get(str(impossible).lower(), impossible)
        if found.get("is_impossible") is True:
            texts, starts = [], []
        return found | {"answers": texts} | ({"answer_starts": starts} if "answer_starts" in example else {})

    def check(self, example: Example) -> str | None:
        for name in ("question", "context"):
            text = example[name]
            if not isinstance(text, str):
                return f"has a {name} that is not text: {text!r}"
            if not text.strip():
                return f"has an empty {name}"
        if example.get("answers") is None:
            return None
        impossible = example.get("is_impossible")
        if impossible is not None and not isinstance(impossible, bool):
            return f"has an is_impossible that is neither true nor false: {impossible!r}"
        if impossible is False and not as_list(example["answers"]):
            return "has no answer, although its is_impossible is false"
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

    def read_prediction(self, written: Any) -> str:
        """Return the text of the answer; "" is no answer."""
        return text_of(written)

    def baselines(self, train: Sequence[Example]) -> Mapping[str, Baseline]:
        """Return answers that need no understanding; "" where questions may have no answer."""
        longest = {"longest word": lambda example: max(example["context"].split(), key=len)}
        return longest | ({"never an answer": lambda example: ""} if self.unanswerable else {})

    def reference(self, example: Example) -> list[str]:
        return as_list(example["answers"])


def _whole(start: Any) -> Any:
    """Return the whole number that CSV or a table of floats holds as "3" or 3.0; else the value itself."""
    if isinstance(start, str) and start.isdecimal():
        return int(start)
    return int(start) if isinstance(start, float) and start.is_integer() else start


def as_list(value: Any) -> list[Any]:
    """Return a cell that holds one value, several or none as a list."""
    return value if isinstance(value, list) else [] if value is None else [value]
