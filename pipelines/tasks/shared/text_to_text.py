"""Tasks that read a text and write one: features, loss and generation for every model family."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, ClassVar

from torch import Tensor
from torch.nn import Module

from pipelines.errors import UserError
from pipelines.metrics.base import Metric, one_or_more
from pipelines.registry.option_types import CheckedBy, Count, Range
from pipelines.tasks.base import Baseline, Batch, Column, Example, Feature, Processor, Raw, Task
from pipelines.tasks.shared.generation import require_family
from pipelines.tasks.shared.languages import language_codes, require_mark, set_languages, source_marks
from pipelines.tasks.shared.text_encoder import TextEncoder
from pipelines.tasks.shared.writing_forms import FORMS
from pipelines.tasks.shared.written_text import text_of


class TextToText(Task):
    """Read a source text and write a target text.

    The form depends on the family. An encoder becomes an encoder and a decoder (bert2bert); an
    encoder-decoder reads the source and writes the target; a decoder reads source and separator and writes
    the target after them. In every form the loss is over the target's tokens and its end token, never over
    the source. A source is cut at its end to fit; a target that is cut is learned without an end token. Both
    are counted in `counts`. `source` and `targets` give the texts of a row: here its columns of these names.
    The target may be a list of texts: the first is learned, all of them are references.

    A derived task states the defaults of the first three arguments, and sets `prefix`.

    Args:
        separator: text that a decoder reads between the source and what it writes.
        max_source_len: tokens of prefix and source, special ones included; the source is cut to fit.
        max_target_len: tokens of a target that are learned.
        max_new_tokens: largest number of generated tokens; null: max_target_len.
        num_beams: beams of beam search; 1 is greedy search.
        length_penalty: with several beams, above 0 favours longer texts.
        generation: more arguments of transformers' `generate`, such as {min_length: 56}; those of the
            checkpoint's own generation_config are not used.
        source_language, target_language: codes of the tokenizer, such as eng_Latn and deu_Latn, where it
            marks every text with its language (NLLB, mBART, M2M100).
    """

    head: ClassVar[str] = "text_to_text"
    loss_settings: ClassVar[tuple[str, ...]] = ("label_smoothing",)
    evaluation_overhead: ClassVar[int] = 1 << 14  # a forward for each token that is written
    columns: Mapping[str, Column] = {
        "source": Column("source", "the text to read"),
        "target": Column("target", "the text to write, or a list of such texts", is_target=True),
    }

    prefix: str = ""  # text that the model reads before every source
    # Options that nothing but a tokenizer with language codes uses.
    code_options: ClassVar[tuple[str, ...]] = ("source_language", "target_language")

    def __init__(
        self,
        separator: str,
        max_source_len: Count,
        max_target_len: Count,
        max_new_tokens: Annotated[int | None, Range(at_least=1)] = None,
        num_beams: Annotated[int, Range(at_least=1, at_most=1000)] = 1,
        length_penalty: Annotated[float, Range(at_least=-10, at_most=10)] = 1.0,
        generation: Annotated[
            dict[str, Any] | None, CheckedBy(function="pipelines.tasks.shared.generation:mistake")
        ] = None,
        source_language: str = "",
        target_language: str = "",
    ) -> None:
        self.separator = separator
        self.max_source_len, self.max_target_len = max_source_len, max_target_len
        self.max_new_tokens = max_new_tokens or max_target_len
        self.num_beams, self.length_penalty = num_beams, length_penalty
        self.generation = generation or {}
        self.source_language, self.target_language = source_language, target_language
        self.counts: Counter[str] = Counter()

    def search(self) -> dict[str, Any]:
        """Return the arguments of `generate`: no sampling, and beam search where there are several beams."""
        search = {"do_sample": False, "max_new_tokens": self.max_new_tokens, **self.generation}
        if self.num_beams > 1:
            search |= {"num_beams": self.num_beams, "length_penalty": self.length_penalty}
        if self._first_token is not None:
            search["forced_bos_token_id"] = self._first_token
        return search

    # ---- rows
    def check(self, example: Example) -> str | None:
        source = example["source"]
        if not isinstance(source, str):
            return f"has a source that is not text but {type(source).__name__}"
        if not source.strip():
            return "has an empty source"
        if "target" not in example:
            return None
        target = example["target"]
        targets: list[Any] = target if isinstance(target, list) else [target]
        odd = [type(text).__name__ for text in targets if not isinstance(text, str)]
        if odd:
            return f"has a target that is not text but {odd[0]}"
        return None if targets and all(text.strip() for text in targets) else "has an empty target"

    def source(self, example: Example) -> str:
        """Return the text to read, without the prefix."""
        return example["source"]

    def targets(self, example: Example) -> list[str] | None:
        """Return the texts to write, of which the first is learned; None for a row that is only predicted."""
        return None if example.get("target") is None else one_or_more(example["target"])

    def texts(self, examples: Iterable[Example]) -> Iterator[str]:
        for example in examples:
            yield self.prefix + self.source(example)
            for target in self.targets(example) or []:
                yield f"{self.separator} {target}"

    def from_text(self, text: str) -> Example:
        return {"source": text}

    # ---- features and batches
    def bind(self, processor: Processor, family: str) -> None:
        super().bind(processor, family)
        require_family(self.generation, family)
        codes = self._set_languages(processor)
        self._marks = source_marks(processor) if family == "encoder_decoder" else []
        self._encoder = TextEncoder(processor)
        self._form = FORMS[family](self._encoder)
        self._set_first_tokens(processor, codes)
        self._joint = self._encoder.space if family == "decoder" else ""
        [self._separator] = self._encoder([self._joint + self.separator]) if family == "decoder" else [[]]
        self._capacity = self.max_source_len - self._encoder.num_special - len(self._separator)
        if self._capacity < 1:
            least = f"at least {self.max_source_len - self._capacity + 1}"
            raise UserError("task.max_source_len", "no room for a text", self.max_source_len, least)
        most = max(self.max_target_len, self.max_new_tokens)
        if self._form.positions(self.max_source_len, most) > self._encoder.max_len:
            raise UserError(
                "task.max_source_len and max_target_len",
                "source and target are longer than the model's inputs",
                f"{self.max_source_len} and {most}",
                f"at most {self._encoder.max_len}" + (" together" if family == "decoder" else " each"),
            )

    def _set_languages(self, processor: Processor) -> list[str]:
        """Set the languages of the tokenizer, and return its codes."""
        codes = language_codes(processor)
        if codes:
            set_languages(processor, codes, self.source_language, self.target_language)
        unused = [name for name in self.code_options if getattr(self, name)]
        if unused and not codes:
            what = "the tokenizer has no language codes, so it would change nothing"
            raise UserError(f"task.{unused[0]}", what, getattr(self, unused[0]), "leave it out")
        return codes

    def _set_first_tokens(self, processor: Processor, codes: list[str]) -> None:
        """Find where the language of a written text goes: its first token, or what the decoder starts with.

        The tokenizer shows which: it puts the code of a target before the text (NLLB, mBART-50, M2M100), or
        after its end (mBART), where the decoder reads it first.
        """
        self._first_token = self._start_token = None
        if codes:
            before, after = self._encoder.around_target
            [code] = set(before + after) - set(self._encoder.structural)
            # NLLB's older format has the code after the text, and still begins with it.
            if code in before or getattr(processor, "legacy_behaviour", False):
                self._first_token = code
            else:
                self._start_token = code

    def model_options(self) -> dict[str, Any]:
        begins = {"decoder_start_token_id": self._start_token, "forced_bos_token_id": self._first_token}
        return {name: token for name, token in begins.items() if token is not None}

    def prepare(self, examples: Sequence[Example]) -> list[Feature]:
        """Return one feature per example: `input_ids` to read and `labels` to write (none if unknown)."""
        texts = [self.prefix + self.source(example) for example in examples]
        for text in texts:
            require_mark(text, self._marks, self.target_language)
        sources = self._encoder(texts)
        learned = {e["id"]: targets[0] for e in examples if (targets := self.targets(e)) is not None}
        targets = [self._joint + text for text in learned.values()]
        written = dict(zip(learned, self._encoder.targets(targets)))
        return [self._feature(e["id"], s, written.get(e["id"])) for e, s in zip(examples, sources)]

    def _feature(self, example_id: str, source: list[int], target: list[int] | None) -> Feature:
        labels = [] if target is None else self._form.target(target)
        self.counts["examples"] += 1
        self.counts["sources_cut"] += len(source) > self._capacity
        self.counts["targets_cut"] += len(labels) > self.max_target_len
        around = self._encoder
        input_ids = [*around.prefix, *source[: self._capacity], *around.suffix, *self._separator]
        return {
            "example_id": example_id,
            "input_ids": input_ids,
            "labels": labels[: self.max_target_len],
            "num_targets": min(len(labels), self.max_target_len),
        }

    def feature_len(self, feature: Feature) -> int:
        """Return the number of tokens read and written."""
        return len(feature["input_ids"]) + len(feature["labels"])

    def collate(self, features: Sequence[Feature]) -> Batch:
        """Return tensors (batch, len): input_ids, attention_mask, labels (`IGNORED`: not a target)."""
        return self._form.collate(
            [feature["input_ids"] for feature in features], [feature["labels"] for feature in features]
        )

    def show(self, feature: Feature) -> str:
        target = self.decoded(feature["labels"])
        return f"{self.decoded(feature['input_ids'])}\n=> {target}"

    # ---- learning and predicting
    def loss(self, model: Module, batch: Batch) -> Tensor:
        return self._form.losses(model, batch, self.label_smoothing).sum()

    def predict(self, model: Module, batch: Batch) -> list[Raw]:
        """Return the loss of the given target and the tokens that the model generates itself."""
        losses, written = self._form.predict(model, batch, self.search())
        return [{"tokens": ids, "loss": loss} for ids, loss in zip(written, losses.sum(dim=1).tolist())]

    def assemble(self, example: Example, raws: Sequence[Raw]) -> str:
        [raw] = raws
        return self.processor.decode(raw["tokens"], skip_special_tokens=True).strip()

    # ---- scoring
    @cached_property
    def metrics(self) -> Mapping[str, Metric]:
        """Return the metrics, built once: they keep tokenizers and caches."""
        return super().metrics

    def read_prediction(self, written: Any) -> str:
        """Return the written text; an empty cell is the empty text."""
        return text_of(written)

    def baselines(self, train: Sequence[Example]) -> Mapping[str, Baseline]:
        counts = Counter(one_or_more(example["target"])[0] for example in train)
        [(target, _)] = counts.most_common(1)
        return {"most frequent target": lambda example: target}

    def reference(self, example: Example) -> str | list[str]:
        return example["target"]
