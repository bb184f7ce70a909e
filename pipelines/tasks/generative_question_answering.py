"""Written answers: read a question and its context, write the answer or nothing (T5, Raffel et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from pipelines.metrics.base import Metric
from pipelines.tasks.base import Column, Example, Task, Trivial
from pipelines.tasks.shared.question_rows import (
    as_list,
    asked_amiss,
    cluster_of,
    least_answers,
    squad_metrics,
)
from pipelines.tasks.shared.text_to_text import TextToText, Writing


class GenerativeQuestionAnswering(TextToText):
    """Write the answer to a question about a context, scored as SQuAD is.

    The model reads "question: ... context: ...", as T5 was taught. The answer need not stand in the context.
    A context that is too long is cut at its end and counted in `counts`. The first of several answers is
    learned, any of them is right.

    Args:
        unanswerable: whether questions may have no answer (an empty list; SQuAD 2.0 and its scorer); the
            model then learns to write nothing.
        separator: what a decoder reads between the context and what it writes.
        max_source_len: tokens of question and context, special ones included; the context is cut to fit.
        max_target_len: tokens of an answer that are learned.
        max_new_tokens: tokens that are written at most; null: max_target_len.
        num_beams: answers kept while searching; 1 takes the likeliest token each time.
        length_penalty: with several beams, above 0 favours longer answers.
    """

    primary: ClassVar[str] = "f1"
    metric_names: ClassVar[tuple[str, ...]] = ("f1", "exact_match")
    columns: ClassVar[Mapping[str, Column]] = {
        "question": Column("question", "the question, a text"),
        "context": Column("context", "the text that the question is about"),
        "answers": Column("answers.text", "texts of the answers, any of which is right", is_target=True),
        "title": Column("title", "where the context is from; questions with one title err alike", False),
    }

    def __init__(
        self,
        unanswerable: bool = False,
        separator: str = "answer:",
        max_source_len: int = 384,
        max_target_len: int = 32,
        max_new_tokens: int | None = None,
        num_beams: int = 1,
        length_penalty: float = 1.0,
    ) -> None:
        lengths = (max_source_len, max_target_len, max_new_tokens)
        super().__init__(Writing("question: ", separator, *lengths, num_beams, length_penalty))
        self.unanswerable = unanswerable

    # ---- rows
    def check(self, example: Example) -> str | None:
        amiss = asked_amiss(example)
        if amiss or example.get("answers") is None:
            return amiss
        answers = as_list(example["answers"])
        if not answers and not self.unanswerable:
            return "has no answer (set task.unanswerable: true where that is meant)"
        odd = [answer for answer in answers if not isinstance(answer, str) or not answer.strip()]
        return f"has an answer that is no text: {odd[0]!r}" if odd else None

    def cluster(self, example: Example) -> str:
        return cluster_of(example)

    def source(self, example: Example) -> str:
        return f"{example['question'].strip()} context: {example['context']}"

    def targets(self, example: Example) -> list[str] | None:
        """The answers; one empty text where there is none."""
        return None if example.get("answers") is None else as_list(example["answers"]) or [""]

    def texts(self, examples: Iterable[Example]) -> Iterator[str]:
        before = None
        for example in examples:
            first = example["context"] != before  # rows about one text stand together
            yield f"{self.writing.prefix}{example['question']} context: {example['context'] if first else ''}"
            yield f"{self.writing.separator} {(self.targets(example) or [''])[0]}"
            before = example["context"]

    def from_text(self, text: str) -> Example:
        return Task.from_text(self, text)

    # ---- scoring
    @property
    def metrics(self) -> Mapping[str, Metric]:
        return squad_metrics(self.unanswerable)

    def trivial(self, train: Sequence[Example]) -> Mapping[str, Trivial]:
        return least_answers(self.unanswerable)

    def reference(self, example: Example) -> list[Any]:
        return as_list(example["answers"])
