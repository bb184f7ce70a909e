"""Summarization: a long text to a short one that says the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar

from pipelines.metrics.base import Metric
from pipelines.metrics.rouge import MEASURES, Rouge, sentences
from pipelines.tasks.base import Example, Trivial
from pipelines.tasks.shared.text_to_text import TextToText, Writing


class Summarization(TextToText):
    """Summarize a text, scored by ROUGE against the best of its reference summaries.

    Args:
        language: of the summaries, such as "en"; chooses how ROUGE finds words.
        prefix: what stands before every document, such as T5's "summarize: ".
        separator: what a decoder reads between the document and what it writes.
        max_source_len: tokens of prefix and document, special ones included; the document is cut to fit.
        max_target_len: tokens of a summary that are learned.
        max_new_tokens: tokens that are written at most; null: max_target_len.
        num_beams: summaries kept while searching; 1 takes the likeliest token each time.
        length_penalty: with several beams, above 0 favours longer summaries.
    """

    primary: ClassVar[str] = "rougeL"
    metric_names: ClassVar[tuple[str, ...]] = ("rouge1", "rouge2", "rougeL", "rougeLsum")

    def __init__(
        self,
        language: str = "en",
        prefix: str = "summarize: ",
        separator: str = "TL;DR:",
        max_source_len: int = 384,
        max_target_len: int = 96,
        max_new_tokens: int | None = None,
        num_beams: int = 1,
        length_penalty: float = 1.0,
    ) -> None:
        lengths = (max_source_len, max_target_len, max_new_tokens)
        super().__init__(Writing(prefix, separator, *lengths, num_beams, length_penalty))
        self.language = language

    def trivial(self, train: Sequence[Example]) -> Mapping[str, Trivial]:
        leads = {
            "first sentence": lambda example: _lead(example["source"], 1),
            "first three sentences": lambda example: _lead(example["source"], 3),
        }
        return {**leads, **super().trivial(train)}

    @cached_property
    def metrics(self) -> Mapping[str, Metric]:
        return {measure: Rouge(measure, self.language) for measure in MEASURES}


def _lead(text: str, count: int) -> str:
    return "\n".join(sentences(text)[:count])
