"""How a model reads a source and writes a target: as two inputs (encoder-decoder) or one (decoder)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutput

from pipelines.tasks.shared.greedy import write_greedily
from pipelines.tasks.shared.prompt_cache import cache_of_prompts, cache_of_sources
from pipelines.tasks.shared.text_encoder import TextEncoder
from pipelines.tasks.shared.token_loss import IGNORED, target_losses

Model = Any  # a model of transformers with `generate` and `config`


class Form(ABC):
    """How one kind of model reads a source and writes a target."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder

    @abstractmethod
    def positions(self, source_len: int, target_len: int) -> int:
        """Return the positions that a model needs for these lengths."""

    @abstractmethod
    def target(self, ids: list[int]) -> list[int]:
        """Return the ids of a target with its special tokens."""

    @abstractmethod
    def collate(self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> dict[str, Any]:
        """Return one batch (batch, len), padded on the right; `labels` has at least one column.

        Beside the tensors, `num_targets` is the number of labels that count.
        """

    @abstractmethod
    def losses(self, model: Model, batch: Mapping[str, Any], smoothing: float = 0.0) -> Tensor:
        """Return the loss of each label, `(batch, len)`, 0 where there is no target; see `target_losses`."""

    @abstractmethod
    def generate(self, model: Model, batch: Mapping[str, Any], search: Mapping[str, Any]) -> list[list[int]]:
        """Return the ids that the model generates, up to the end token and without it.

        Args:
            search: arguments of the model's `generate`.
        """

    def predict(
        self, model: Model, batch: Mapping[str, Tensor], search: Mapping[str, Any]
    ) -> tuple[Tensor, list[list[int]]]:
        """Return `losses` and `generate`."""
        return self.losses(model, batch), self.generate(model, batch, search)

    def _write(self, model: Model, begin: int, **inputs: Any) -> list[list[int]]:
        """Generate, and return the ids from position `begin` up to the first end token."""
        end, searching = self._end, {"eos_token_id": self._end, "pad_token_id": self._encoder.pad}
        is_greedy = inputs.get("do_sample") is False and inputs.get("num_beams", 1) == 1
        if is_greedy and not _waits_for_others():
            searching["custom_generate"] = write_greedily
        rows = model.generate(**inputs, **searching)[:, begin:].tolist()
        return [row[: row.index(end)] if end in row else row for row in rows]

    @property
    def _end(self) -> int:
        """Return the id that ends a target."""
        return self._encoder.end


class Pair(Form):
    """An encoder reads the source, a decoder writes the target."""

    def positions(self, source_len: int, target_len: int) -> int:
        return max(source_len, target_len)

    def target(self, ids: list[int]) -> list[int]:
        """Return the ids with the special tokens that the tokenizer gives a target, and an end token."""
        prefix, suffix = self._encoder.around_target
        return [*prefix, *ids, *(suffix or [self._encoder.end])]

    @property
    def _end(self) -> int:
        """Return the id that ends a target, which is another where targets have their own vocabulary."""
        suffix = self._encoder.around_target[1]
        return suffix[0] if suffix and self._encoder.end not in suffix else self._encoder.end

    def collate(self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> dict[str, Any]:
        labels = padded([list(target) or [IGNORED] for target in targets], IGNORED)
        return {
            "input_ids": padded(sources, self._encoder.pad),
            "attention_mask": padded([[1] * len(source) for source in sources], 0),
            "labels": labels,
            "num_targets": num_targets(labels),
        }

    def losses(self, model: Model, batch: Mapping[str, Any], smoothing: float = 0.0) -> Tensor:
        return self._forced(model, batch, smoothing, use_cache=False)[0]

    def predict(
        self, model: Model, batch: Mapping[str, Tensor], search: Mapping[str, Any]
    ) -> tuple[Tensor, list[list[int]]]:
        """Return `losses` and `generate`; for both the encoder runs once, and so do the projections of its
        states to keys and values."""
        losses, output = self._forced(model, batch, use_cache=_has_cache(model))
        encoded = BaseModelOutput(last_hidden_state=output.encoder_last_hidden_state)
        cache = _for_beams(cache_of_sources(output.get("past_key_values")), search)
        del output
        source = _without_padding(batch["input_ids"], batch["attention_mask"])
        known = {"encoder_outputs": encoded, "past_key_values": cache, "input_ids": source}
        return losses, self.generate(model, {**batch, **known}, search)

    def _forced(
        self, model: Model, batch: Mapping[str, Any], smoothing: float = 0.0, *, use_cache: bool
    ) -> tuple[Tensor, Any]:
        """Return losses and output of the model with the target as decoder input (teacher forcing)."""
        inputs = {
            "input_ids": batch["input_ids"],
            "attention_mask": batch["attention_mask"],
            "decoder_input_ids": self._shifted(batch["labels"], start_token(model)),
            "use_cache": use_cache,
        }
        return target_losses(model, inputs, batch["labels"], batch["num_targets"], smoothing)

    def _shifted(self, labels: Tensor, start: int) -> Tensor:
        """Return the decoder input for `labels`: shifted right by one, after the start token."""
        known = labels.masked_fill(labels == IGNORED, self._encoder.pad)
        return torch.cat([torch.full_like(known[:, :1], start), known[:, :-1]], dim=1)

    def generate(self, model: Model, batch: Mapping[str, Any], search: Mapping[str, Any]) -> list[list[int]]:
        names = ("input_ids", "attention_mask", "encoder_outputs", "past_key_values")
        inputs = {name: batch[name] for name in names if batch.get(name) is not None}
        return self._write(model, 1, decoder_start_token_id=start_token(model), **inputs, **search)


class Continuation(Form):
    """A decoder continues the source: both are one text, of which only the target is learned."""

    def positions(self, source_len: int, target_len: int) -> int:
        return source_len + target_len

    def target(self, ids: list[int]) -> list[int]:
        return [*ids, self._encoder.end]

    def collate(self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> dict[str, Any]:
        whole = [[*source, *target] for source, target in zip(sources, targets)]
        rows = [[IGNORED] * len(source) + list(target) for source, target in zip(sources, targets)]
        labels = padded(rows, IGNORED)
        return {
            "input_ids": padded(whole, self._encoder.pad),
            "attention_mask": padded([[1] * len(ids) for ids in whole], 0),
            "labels": labels,
            "num_targets": num_targets(labels[:, 1:]),  # nothing stands before the first token
        }

    def losses(self, model: Model, batch: Mapping[str, Any], smoothing: float = 0.0) -> Tensor:
        """Return the loss of the label after each token, of the last one 0.

        Padding is on the right, so that positions count from 0.
        """
        return self._forced(model, batch, smoothing, use_cache=False)[0]

    def predict(
        self, model: Model, batch: Mapping[str, Tensor], search: Mapping[str, Any]
    ) -> tuple[Tensor, list[list[int]]]:
        """Return `losses` and `generate`; the source is read once for both, where the cache can be cut."""
        losses, output = self._forced(model, batch, use_cache=_has_cache(model))
        cache = _for_beams(cache_of_prompts(output.get("past_key_values"), _is_prompt(batch).sum(1)), search)
        del output
        return losses, self.generate(model, {**batch, "past_key_values": cache}, search)

    def _forced(
        self, model: Model, batch: Mapping[str, Any], smoothing: float = 0.0, *, use_cache: bool
    ) -> tuple[Tensor, Any]:
        """Return losses and output of the model that reads source and target."""
        inputs = {**{name: batch[name] for name in ("input_ids", "attention_mask")}, "use_cache": use_cache}
        following = pad(batch["labels"][:, 1:], (0, 1), value=IGNORED)
        return target_losses(model, inputs, following, batch["num_targets"], smoothing)

    def generate(self, model: Model, batch: Mapping[str, Any], search: Mapping[str, Any]) -> list[list[int]]:
        """Return the generated ids; prompts are padded on the left, so that new tokens follow directly."""
        prompts = [ids[here].flip(0) for ids, here in zip(batch["input_ids"], _is_prompt(batch))]
        input_ids = pad_sequence(prompts, batch_first=True, padding_value=self._encoder.pad).flip(1)
        ones = [torch.ones_like(prompt) for prompt in prompts]
        mask = pad_sequence(ones, batch_first=True).flip(1)
        known = {name: batch[name] for name in ("past_key_values",) if batch.get(name) is not None}
        begin = input_ids.shape[1]
        return self._write(model, begin, input_ids=input_ids, attention_mask=mask, **known, **search)


def _has_cache(model: Model) -> bool:
    """Return whether a step goes on from a cache; without one it reads all tokens again."""
    return model.generation_config.use_cache is not False


def _without_padding(ids: Tensor, mask: Tensor) -> Tensor:
    """Return sources with their last token in the place of padding, for rules about what a source says.

    It ends a text, after which nothing is written, so that it may stand there again.
    """
    last = ids.gather(1, (mask.sum(1, keepdim=True) - 1).clamp(min=0))
    return ids.where(mask.bool(), last)


def _for_beams(cache: Cache | None, search: Mapping[str, Any]) -> Cache | None:
    """Return a cache with as many rows for each text as it has beams."""
    if cache is not None and search.get("num_beams", 1) > 1:
        cache.batch_repeat_interleave(search["num_beams"])
    return cache


def _is_prompt(batch: Mapping[str, Tensor]) -> Tensor:
    """Return where the sources are, booleans (batch, len)."""
    return (batch["labels"] == IGNORED) & batch["attention_mask"].bool()


FORMS: Mapping[str, type[Form]] = {"encoder": Pair, "encoder_decoder": Pair, "decoder": Continuation}


def padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    """Return rows as one tensor `(rows, longest)`, padded on the right."""
    tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=filler)


def num_targets(labels: Tensor) -> int:
    """Return the number of labels that count; they are still on the CPU."""
    return int((labels != IGNORED).sum())


def _waits_for_others() -> bool:
    """Return whether other processes compute with this one, as shards of a model do in every forward.

    transformers' search then goes on until the texts of all have ended.
    """
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def start_token(model: Model) -> int:
    """Return the id with which a decoder begins; the model may be wrapped for several processes."""
    bare = model.module if hasattr(model, "module") else model
    return bare.config.decoder_start_token_id
