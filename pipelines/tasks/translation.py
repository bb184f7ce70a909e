"""Translation: a text from one language into another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pipelines.metrics.base import Metric
from pipelines.metrics.bleu import Bleu
from pipelines.metrics.chrf import Chrf
from pipelines.registry.option_types import Count, Range
from pipelines.tasks.base import Baseline, Example
from pipelines.tasks.shared.text_to_text import TextToText

# Those of sacrebleu.
Tokenizer = Literal[
    "none",
    "zh",
    "13a",
    "intl",
    "char",
    "ja-mecab",
    "ko-mecab",
    "spm",
    "flores101",
    "flores200",
    "spBLEU-1K",
]


class Translation(TextToText):
    """Translate a text, scored by corpus BLEU and chrF.

    Args:
        target_language: of the translations, by any usual code or name; chooses the tokenizer of BLEU. Where
            the tokenizer of the model has language codes, one of them, such as deu_Latn.
        tokenize: a tokenizer of sacrebleu in its place, such as char; null: the one of the language.
        num_references: translations of every row; null for a number that varies.
        prefix: text before every source, such as T5's "translate English to German: ".
        separator: text that a decoder reads between the source and the translation.
        max_source_len: tokens of prefix and source, special ones included; the source is cut to fit.
        max_target_len: tokens of a translation that are learned.
    """

    primary: ClassVar[str] = "bleu"
    metric_names: ClassVar[tuple[str, ...]] = ("bleu", "chrf")
    code_options: ClassVar[tuple[str, ...]] = ("source_language",)

    def __init__(
        self,
        target_language: str = "",
        num_references: Annotated[int | None, Range(at_least=1)] = 1,
        prefix: str = "translate: ",
        separator: str = "=>",
        max_source_len: Count = 128,
        max_target_len: Count = 128,
        tokenize: Tokenizer | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            separator, max_source_len, max_target_len, target_language=target_language, **options
        )
        self.num_references, self.prefix, self.tokenize = num_references, prefix, tokenize

    def baselines(self, train: Sequence[Example]) -> Mapping[str, Baseline]:
        return {"source copied": lambda example: example["source"], **super().baselines(train)}

    def metric(self, name: str) -> Metric:
        if name == "bleu":
            return Bleu(self.target_language, self.tokenize, self.num_references)
        return Chrf(num_references=self.num_references)
