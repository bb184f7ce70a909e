"""Translation: a text in one language to the same in another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar

from pipelines.metrics.base import Metric
from pipelines.metrics.bleu import Bleu
from pipelines.metrics.chrf import Chrf
from pipelines.tasks.base import Example, Trivial
from pipelines.tasks.shared.text_to_text import TextToText, Writing


class Translation(TextToText):
    """Translate a text, scored by corpus BLEU and chrF.

    Args:
        target_language: of the translations, such as "de" or "zh"; chooses the tokenizer of BLEU.
        num_references: translations every row has; null for a number that varies.
        prefix: what stands before every source, such as T5's "translate English to German: ".
        separator: what a decoder reads between the source and what it writes.
        max_source_len: tokens of prefix and source, special ones included; the source is cut to fit.
        max_target_len: tokens of a target that are learned.
        max_new_tokens: tokens that are written at most; null: max_target_len.
        num_beams: translations kept while searching; 1 takes the likeliest token each time.
        length_penalty: with several beams, above 0 favours longer translations.
    """

    primary: ClassVar[str] = "bleu"
    metric_names: ClassVar[tuple[str, ...]] = ("bleu", "chrf")

    def __init__(
        self,
        target_language: str = "",
        num_references: int | None = 1,
        prefix: str = "translate: ",
        separator: str = "=>",
        max_source_len: int = 128,
        max_target_len: int = 128,
        max_new_tokens: int | None = None,
        num_beams: int = 1,
        length_penalty: float = 1.0,
    ) -> None:
        lengths = (max_source_len, max_target_len, max_new_tokens)
        super().__init__(Writing(prefix, separator, *lengths, num_beams, length_penalty))
        self.target_language, self.num_references = target_language, num_references

    def trivial(self, train: Sequence[Example]) -> Mapping[str, Trivial]:
        return {"source copied": lambda example: example["source"], **super().trivial(train)}

    @cached_property
    def metrics(self) -> Mapping[str, Metric]:
        return {
            "bleu": Bleu(self.target_language, num_references=self.num_references),
            "chrf": Chrf(num_references=self.num_references),
        }
