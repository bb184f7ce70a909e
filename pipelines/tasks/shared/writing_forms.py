"""How a source and a target become model inputs: apart for an encoder-decoder, one text for a decoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.modeling_outputs import BaseModelOutput

from pipelines.tasks.shared.text_encoder import TextEncoder
from pipelines.tasks.shared.token_loss import IGNORED, token_losses


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
