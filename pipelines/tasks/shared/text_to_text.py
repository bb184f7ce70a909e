"""What tasks share that read a text and write one: features, loss, generation, for every family of models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from pipelines.errors import UserError
from pipelines.metrics.base import one_or_more
from pipelines.tasks.base import Column, Example, Feature, Raw, Task, Trivial
from pipelines.tasks.shared.text_encoder import TextEncoder
from pipelines.tasks.shared.writing_forms import FORMS


@dataclass(frozen=True)
class Writing:
    """How a model reads and writes: lengths in tokens, and the search for the text it writes."""

    prefix: str
    separator: str
    max_source_len: int
    max_target_len: int
    max_new_tokens: int | None
    num_beams: int
    length_penalty: float

    def __post_init__(self) -> None:
        for name in ("max_source_len", "max_target_len", "max_new_tokens", "num_beams"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"task.{name}", "must be at least 1", value)

    @property
    def most_new_tokens(self) -> int:
        return self.max_new_tokens or self.max_target_len

    def search(self) -> dict[str, Any]:
        """Arguments of `generate`: nothing is drawn, and beams count only where there are several."""
        beams = {"num_beams": self.num_beams, "length_penalty": self.length_penalty}
        return {"do_sample": False, "max_new_tokens": self.most_new_tokens} | (
            beams if self.num_beams > 1 else {}
        )


class TextToText(Task):
    """Read a source text, write a target text.

    The family decides the form. An encoder becomes an encoder and a decoder (bert2bert); an encoder-decoder
    reads the source and writes the target; a decoder reads source and separator and goes on writing.
    In every form the loss is over the target's tokens and its end, never over the source.
    A source is cut at its end to fit; a target that is cut is learned without an end. Both are counted in
    `counts`. `source` and `targets` say what is read and written of a row: here its columns of these names;
    the target may be a list of texts. The first is learned, all of them are references.
    """

    head: ClassVar[str] = "text_to_text"
    evaluation_overhead: ClassVar[int] = 1 << 14  # a forward for each token that is written
    columns: ClassVar[Mapping[str, Column]] = {
        "source": Column("source", "the text to read"),
        "target": Column("target", "the text to write, or a list of such texts", is_target=True),
    }

    def __init__(self, writing: Writing) -> None:
        self.writing = writing
        self.counts: Counter[str] = Counter()

    # ---- rows
    def check(self, example: Example) -> str | None:
        source, target = example["source"], example.get("target")
        if not isinstance(source, str):
            return f"has a source that is no text but {type(source).__name__}"
        if not source.strip():
            return "has an empty source"
        if "target" not in example:
            return None
        targets = target if isinstance(target, list) else [target]
        odd = [type(text).__name__ for text in targets if not isinstance(text, str)]
        if odd:
            return f"has a target that is no text but {odd[0]}"
        return None if targets and all(text.strip() for text in targets) else "has an empty target"

    def source(self, example: Example) -> str:
        """The text to read, without the prefix."""
        return example["source"]

    def targets(self, example: Example) -> list[str] | None:
        """The texts to write, the first of which is learned; None where a row is only to be predicted."""
        return None if example.get("target") is None else one_or_more(example["target"])

    def texts(self, examples: Iterable[Example]) -> Iterator[str]:
        for example in examples:
            yield self.writing.prefix + self.source(example)
            for target in self.targets(example) or []:
                yield f"{self.writing.separator} {target}"

    def from_text(self, text: str) -> Example:
        return {"source": text}

    # ---- features and batches
    def bind(self, processor: Any, family: str) -> None:
        super().bind(processor, family)
        self._encoder = TextEncoder(processor)
        self._form = FORMS[family](self._encoder)
        [self._separator] = self._encoder([self.writing.separator]) if family == "decoder" else [[]]
        self._capacity = self.writing.max_source_len - self._encoder.num_special - len(self._separator)
        if self._capacity < 1:
            least = f"at least {self.writing.max_source_len - self._capacity + 1}"
            raise UserError("task.max_source_len", "no room for a text", self.writing.max_source_len, least)
        writing = self.writing
        most = max(writing.max_target_len, writing.most_new_tokens)
        needed = self._form.positions(writing.max_source_len, most)
        if needed > self._encoder.max_len:
            raise UserError(
                "task.max_source_len and max_target_len",
                "source and target are longer than the model's inputs",
                f"{writing.max_source_len} and {most}",
                f"at most {self._encoder.max_len}" + (" together" if family == "decoder" else " each"),
            )

    def prepare(self, examples: Sequence[Example]) -> list[Feature]:
        """One feature per example: `input_ids`, what is read; `labels`, what is written (none if unknown)."""
        sources = self._encoder([self.writing.prefix + self.source(example) for example in examples])
        learned = {e["id"]: targets[0] for e in examples if (targets := self.targets(e)) is not None}
        written = dict(zip(learned, self._encoder(list(learned.values()))))
        return [self._feature(e["id"], s, written.get(e["id"])) for e, s in zip(examples, sources)]

    def _feature(self, example_id: str, source: list[int], target: list[int] | None) -> Feature:
        most = self.writing.max_target_len
        labels = [] if target is None else self._form.target(target)
        self.counts["examples"] += 1
        self.counts["sources_cut"] += len(source) > self._capacity
        self.counts["targets_cut"] += len(labels) > most
        around = self._encoder
        input_ids = [*around.prefix, *source[: self._capacity], *around.suffix, *self._separator]
        return {
            "example_id": example_id,
            "input_ids": input_ids,
            "labels": labels[:most],
            "num_targets": len(labels[:most]),
        }

    def feature_len(self, feature: Feature) -> int:
        """Tokens read and written."""
        return len(feature["input_ids"]) + len(feature["labels"])

    def collate(self, features: Sequence[Feature]) -> dict[str, Any]:
        """Tensors (batch, len): input_ids, attention_mask, and labels, `IGNORED` where nothing is learned."""
        return self._form.collate(
            [feature["input_ids"] for feature in features], [feature["labels"] for feature in features]
        )

    def show(self, feature: Feature) -> str:
        target = self.processor.decode(feature["labels"])
        return f"{self.processor.decode(feature['input_ids'])}\n=> {target}"

    # ---- learning and predicting
    def loss(self, model: Any, batch: dict[str, Any]) -> Tensor:
        return self._form.losses(model, batch).sum()

    def predict(self, model: Any, batch: dict[str, Any]) -> list[Raw]:
        """The loss of the given target, and the tokens the model writes itself."""
        losses, written = self._form.predict(model, batch, self.writing.search())
        return [{"tokens": ids, "loss": loss} for ids, loss in zip(written, losses.sum(dim=1).tolist())]

    def assemble(self, example: Example, raws: Sequence[Raw]) -> str:
        [raw] = raws
        return self.processor.decode(raw["tokens"], skip_special_tokens=True).strip()

    # ---- scoring
    def trivial(self, train: Sequence[Example]) -> Mapping[str, Trivial]:
        counts = Counter(self.targets(example)[0] for example in train)
        [(target, _)] = counts.most_common(1)
        return {"most frequent target": lambda example: target}

    def reference(self, example: Example) -> str | list[str]:
        return example["target"]
