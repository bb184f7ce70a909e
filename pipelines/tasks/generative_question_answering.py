"""Written answers: read a question and its context, write the answer or none (T5, Raffel et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipelines.registry.option_types import Count
from pipelines.tasks.base import Column, Example, Task
from pipelines.tasks.shared.question_rows import IMPOSSIBLE, QuestionTask, as_list
from pipelines.tasks.shared.text_to_text import TextToText


class GenerativeQuestionAnswering(QuestionTask, TextToText):
    """Write the answer to a question about a context, scored as in SQuAD.

    The model reads "question: ... context: ...", the format that T5 was trained on. The answer need not
    occur in the context. A context that is too long is cut at its end and counted in `counts`. The first of
    several answers is learned, any of them is correct.

    Args:
        unanswerable: whether questions may have no answer (an empty list; scored as in SQuAD 2.0); the model
            then learns to write nothing.
        separator: text that a decoder reads between the context and the answer.
        max_source_len: tokens of question and context, special ones included; the context is cut to fit.
        max_target_len: tokens of an answer that are learned.
    """

    columns: Mapping[str, Column] = {
        "question": Column("question", "the question, a text"),
        "context": Column("context", "the text that the question is about"),
        "answers": Column(
            "answers.text",
            "texts of the answers, any of which is correct",
            is_target=True,
            may_be_null=True,
        ),
        "is_impossible": IMPOSSIBLE,
        "title": Column(
            "title", "the source of the context; questions with one title share a cluster", False
        ),
    }

    prefix = "question: "

    def __init__(
        self,
        unanswerable: bool = False,
        separator: str = "answer:",
        max_source_len: Count = 384,
        max_target_len: Count = 32,
        **options: Any,
    ) -> None:
        super().__init__(separator, max_source_len, max_target_len, **options)
        self.unanswerable = unanswerable

    # ---- rows
    def check_answers(self, example: Example) -> str | None:
        answers = as_list(example["answers"])
        wrong = [answer for answer in answers if not isinstance(answer, str) or not answer.strip()]
        return f"has an answer that is not text: {wrong[0]!r}" if wrong else None

    def source(self, example: Example) -> str:
        return f"{example['question'].strip()} context: {example['context']}"

    def targets(self, example: Example) -> list[str] | None:
        """Return the answers; one empty text where there is none."""
        return None if example.get("answers") is None else as_list(example["answers"]) or [""]

    def texts(self, examples: Iterable[Example]) -> Iterator[str]:
        previous = None
        for example in examples:
            context = example["context"] if example["context"] != previous else ""  # each text once
            yield f"{self.prefix}{example['question']} context: {context}"
            yield f"{self.separator} {(self.targets(example) or [''])[0]}"
            previous = example["context"]

    def from_text(self, text: str) -> Example:
        return Task.from_text(self, text)  # one line cannot hold a question and a context
