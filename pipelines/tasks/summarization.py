"""Summarization: a short text with the main content of a long one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

from pipelines.metrics.base import Metric
from pipelines.metrics.rouge import Measure, Rouge, sentences
from pipelines.registry.option_types import Count
from pipelines.tasks.base import Baseline, Example
from pipelines.tasks.shared.text_to_text import TextToText


class Summarization(TextToText):
    """Summarize a text, scored by ROUGE against the best of its reference summaries.

    A document may be a list of its sentences, which are joined by blanks.

    Args:
        language: of the summaries, such as "en"; chooses how ROUGE finds words.
        prefix: text before every document, such as T5's "summarize: ".
        separator: text that a decoder reads between the document and the summary.
        max_source_len: tokens of prefix and document, special ones included; the document is cut to fit.
        max_target_len: tokens of a summary that are learned.
    """

    primary: ClassVar[str] = "rougeL"
    metric_names: ClassVar[tuple[str, ...]] = ("rouge1", "rouge2", "rougeL", "rougeLsum")

    def __init__(
        self,
        language: str = "en",
        prefix: str = "summarize: ",
        separator: str = "TL;DR:",
        max_source_len: Count = 384,
        max_target_len: Count = 96,
        **options: Any,
    ) -> None:
        super().__init__(separator, max_source_len, max_target_len, **options)
        self.language, self.prefix = language, prefix

    def spelled(self, example: Example) -> Example:
        source = example.get("source")
        if isinstance(source, list) and all(isinstance(sentence, str) for sentence in source):
            return {**example, "source": " ".join(source)}
        return example

    def baselines(self, train: Sequence[Example]) -> Mapping[str, Baseline]:
        leads = {
            "first sentence": lambda example: _lead(example["source"], 1),
            "first three sentences": lambda example: _lead(example["source"], 3),
        }
        return {**leads, **super().baselines(train)}

    def metric(self, name: str) -> Metric:
        return Rouge(cast(Measure, name), self.language)


def _lead(text: str, count: int) -> str:
    """Return the first `count` sentences, one per line."""
    return "\n".join(sentences(text)[:count])
