"""What tasks share that read a text and write one: features, loss, generation, for every family of models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.modeling_outputs import BaseModelOutput

from pipelines.errors import UserError
from pipelines.metric import one_or_more
from pipelines.task import Column, Example, Feature, Raw, Task, Trivial
from pipelines.texts import TextEncoder
from pipelines.token_loss import IGNORED, token_losses


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


# ---- how a family reads and writes
class Form(ABC):
    """A way to read a source and write a target with one kind of model."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder

    @abstractmethod
    def positions(self, source_len: int, target_len: int) -> int:
        """Positions a model needs for such lengths."""

    @abstractmethod
    def target(self, ids: list[int]) -> list[int]:
        """The ids of a target with what belongs around them."""

    @abstractmethod
    def collate(
        self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
    ) -> dict[str, Tensor]:
        """One batch, padded on the right; `labels` is at least one column wide."""

    @abstractmethod
    def losses(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Loss of each label `(batch, len)`, 0 where there is none."""

    @abstractmethod
    def generate(self, model: Any, batch: Mapping[str, Any], search: Mapping[str, Any]) -> list[list[int]]:
        """What the model writes by itself, up to its end and without it."""

    def predict(
        self, model: Any, batch: Mapping[str, Tensor], search: Mapping[str, Any]
    ) -> tuple[Tensor, list[list[int]]]:
        """`losses` and `generate`."""
        return self.losses(model, batch), self.generate(model, batch, search)

    def _write(self, model: Any, begin: int, **inputs: Any) -> list[list[int]]:
        """Generate, and keep what stands between position `begin` and the first end."""
        ends = {"eos_token_id": self._encoder.end, "pad_token_id": self._encoder.pad}
        rows = model.generate(**inputs, **ends)[:, begin:].tolist()
        return [row[: row.index(self._encoder.end)] if self._encoder.end in row else row for row in rows]


class Pair(Form):
    """Encoder and decoder: the source goes in on one side, the target comes out on the other."""

    def positions(self, source_len: int, target_len: int) -> int:
        return max(source_len, target_len)

    def target(self, ids: list[int]) -> list[int]:
        """With the tokenizer's end; without [CLS], which is no text but where BERT's decoder starts."""
        start = [] if self._encoder.starts_with_class else self._encoder.prefix
        return [*start, *ids, *(self._encoder.suffix or [self._encoder.end])]

    def collate(
        self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
    ) -> dict[str, Tensor]:
        return {
            "input_ids": padded(sources, self._encoder.pad),
            "attention_mask": padded([[1] * len(source) for source in sources], 0),
            "labels": padded([list(target) or [IGNORED] for target in targets], IGNORED),
        }

    def losses(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        return token_losses(self._say_again(model, batch).logits, batch["labels"])

    def predict(
        self, model: Any, batch: Mapping[str, Tensor], search: Mapping[str, Any]
    ) -> tuple[Tensor, list[list[int]]]:
        """The source is read once for both."""
        said = self._say_again(model, batch)
        read = BaseModelOutput(last_hidden_state=said.encoder_last_hidden_state)
        losses = token_losses(said.logits, batch["labels"])
        return losses, self.generate(model, {**batch, "encoder_outputs": read}, search)

    def _say_again(self, model: Any, batch: Mapping[str, Tensor]) -> Any:
        """What the model says at each place of a target that it is given."""
        return model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            decoder_input_ids=self._shifted(batch["labels"], start_token(model)),
            use_cache=False,
        )

    def _shifted(self, labels: Tensor, start: int) -> Tensor:
        """What the decoder reads to write `labels`: the same, one later, after the start token."""
        known = labels.masked_fill(labels == IGNORED, self._encoder.pad)
        return torch.cat([torch.full_like(known[:, :1], start), known[:, :-1]], dim=1)

    def generate(self, model: Any, batch: Mapping[str, Any], search: Mapping[str, Any]) -> list[list[int]]:
        names = ("input_ids", "attention_mask", "encoder_outputs")
        inputs = {name: batch[name] for name in names if name in batch}
        return self._write(model, 1, decoder_start_token_id=start_token(model), **inputs, **search)


class Continuation(Form):
    """A decoder: source, separator and target are one text, of which the target is learned."""

    def positions(self, source_len: int, target_len: int) -> int:
        return source_len + target_len

    def target(self, ids: list[int]) -> list[int]:
        return [*ids, self._encoder.end]

    def collate(
        self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
    ) -> dict[str, Tensor]:
        whole = [[*source, *target] for source, target in zip(sources, targets)]
        labels = [[IGNORED] * len(source) + list(target) for source, target in zip(sources, targets)]
        return {
            "input_ids": padded(whole, self._encoder.pad),
            "attention_mask": padded([[1] * len(ids) for ids in whole], 0),
            "labels": padded(labels, IGNORED),
        }

    def losses(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Padding stands right, so that positions count from 0 in every architecture."""
        output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
        return token_losses(output.logits[:, :-1], batch["labels"][:, 1:])

    def generate(self, model: Any, batch: Mapping[str, Any], search: Mapping[str, Any]) -> list[list[int]]:
        """Prompts are padded left: what a row writes must follow its prompt at once."""
        is_prompt = (batch["labels"] == IGNORED) & batch["attention_mask"].bool()
        prompts = [ids[here].flip(0) for ids, here in zip(batch["input_ids"], is_prompt)]
        input_ids = pad_sequence(prompts, batch_first=True, padding_value=self._encoder.pad).flip(1)
        ones = [torch.ones_like(prompt) for prompt in prompts]
        mask = pad_sequence(ones, batch_first=True).flip(1)
        return self._write(model, input_ids.shape[1], input_ids=input_ids, attention_mask=mask, **search)


FORMS: Mapping[str, type[Form]] = {"encoder": Pair, "encoder_decoder": Pair, "decoder": Continuation}


def padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    """Rows as one tensor `(rows, longest)`, filled on the right."""
    tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=filler)


def start_token(model: Any) -> int:
    """The id a decoder begins with, from the config of the model, wrapped for several processes or not."""
    return getattr(model, "module", model).config.decoder_start_token_id
