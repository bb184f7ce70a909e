"""The objective of language modelling for each family: masked tokens, next tokens, hidden spans."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any

from torch import Tensor

from pipelines.errors import UserError
from pipelines.tasks.shared.text_encoder import TextEncoder
from pipelines.tasks.shared.token_loss import IGNORED, target_losses
from pipelines.tasks.shared.writing_forms import Continuation, Pair, num_targets, padded


@dataclass(frozen=True)
class TextBlock:
    """A part of a text: token ids, the bytes of each token, and the position of the first target."""

    ids: list[int]
    sizes: list[int]
    first: int = 0


class Objective(ABC):
    """The inputs and the targets that are made from a block."""

    def __init__(self, encoder: TextEncoder, hidden_share: float, mean_span_len: float) -> None:
        self._encoder, self._share, self._mean_span_len = encoder, hidden_share, mean_span_len

    def blocks(self, ids: list[int], sizes: list[int], max_len: int, overlap: int) -> list[TextBlock]:
        """Cut a text into blocks that fit with their special tokens, which are added later; at least one."""
        room = max_len - self._encoder.num_special
        starts = range(0, max(1, len(ids)), room)
        return [TextBlock(ids[start : start + room], sizes[start : start + room]) for start in starts]

    @abstractmethod
    def num_targets(self, block: TextBlock) -> int:
        """Return the number of predicted tokens, which does not depend on the random draws."""

    def cost(self, block: TextBlock) -> int:
        """Return the tokens of a block in a batch."""
        return len(block.ids) + self._encoder.num_special

    @abstractmethod
    def evaluation_batch(self, blocks: Sequence[TextBlock], randoms: Sequence[Random]) -> dict[str, Any]:
        """Return tensors (batch, len), drawn with one generator per block, and `num_bytes` of its targets."""

    def training_batch(self, blocks: Sequence[TextBlock], random: Random, vocab_size: int) -> dict[str, Any]:
        """Return the batch with draws from one generator for all blocks."""
        return self.evaluation_batch(blocks, [random] * len(blocks))

    @abstractmethod
    def losses(self, model: Any, batch: Mapping[str, Any]) -> Tensor:
        """Return the loss of each target, `(batch, len)`, 0 elsewhere."""

    def _num_hidden(self, block: TextBlock) -> int:
        """Return the number of hidden tokens: at least one, and never all of several."""
        count = len(block.ids)
        return min(max(1, round(count * self._share)), max(1, count - 1)) if count else 0


class Masked(Objective):
    """Predict masked tokens. In training one in ten is kept and one is replaced at random, as in BERT."""

    def __init__(self, encoder: TextEncoder, hidden_share: float, mean_span_len: float) -> None:
        super().__init__(encoder, hidden_share, mean_span_len)
        if encoder.mask is None:
            raise UserError("model", "the tokenizer has no mask token, which an encoder learns to fill in")
        self._mask = encoder.mask

    def num_targets(self, block: TextBlock) -> int:
        return self._num_hidden(block)

    def evaluation_batch(self, blocks: Sequence[TextBlock], randoms: Sequence[Random]) -> dict[str, Any]:
        return self._batch(blocks, randoms, lambda random, token: self._mask)

    def training_batch(self, blocks: Sequence[TextBlock], random: Random, vocab_size: int) -> dict[str, Any]:
        def replacement(random: Random, token: int) -> int:
            chance = random.random()
            if chance < 0.8:
                return self._mask
            return token if chance < 0.9 else random.randrange(vocab_size)

        return self._batch(blocks, [random] * len(blocks), replacement)

    def _batch(
        self,
        blocks: Sequence[TextBlock],
        randoms: Sequence[Random],
        replacement: Callable[[Random, int], int],
    ) -> dict[str, Any]:
        before, after = self._encoder.prefix, self._encoder.suffix
        inputs, labels, num_bytes = [], [], []
        for block, random in zip(blocks, randoms):
            visible, targets = list(block.ids), [IGNORED] * len(block.ids)
            hidden = sorted(random.sample(range(len(visible)), self._num_hidden(block)))
            for position in hidden:
                targets[position] = visible[position]
                visible[position] = replacement(random, visible[position])
            inputs.append([*before, *visible, *after])
            labels.append([IGNORED] * len(before) + targets + [IGNORED] * len(after))
            num_bytes.append(sum(block.sizes[position] for position in hidden))
        of_batch = padded(labels, IGNORED)
        return {
            "input_ids": padded(inputs, self._encoder.pad),
            "attention_mask": padded([[1] * len(ids) for ids in inputs], 0),
            "labels": of_batch,
            "num_targets": num_targets(of_batch),
            "num_bytes": num_bytes,
        }

    def losses(self, model: Any, batch: Mapping[str, Any]) -> Tensor:
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        return target_losses(model, inputs, batch["labels"], batch["num_targets"])[0]


class Next(Objective):
    """Predict each next token and the end of the text, without random draws."""

    def blocks(self, ids: list[int], sizes: list[int], max_len: int, overlap: int) -> list[TextBlock]:
        """Cut a text with begin and end token into overlapping blocks; its first token is no target."""
        begin = self._encoder.begin
        ids, sizes = [*begin, *ids, self._encoder.end], [*(0 for _ in begin), *sizes, 0]
        found = [TextBlock(ids[:max_len], sizes[:max_len], 1)]
        done = max_len
        while done < len(ids):
            start = done - overlap
            done = start + max_len
            found.append(TextBlock(ids[start:done], sizes[start:done], overlap))
        return found

    def num_targets(self, block: TextBlock) -> int:
        return len(block.ids) - block.first

    def cost(self, block: TextBlock) -> int:
        return len(block.ids)

    def evaluation_batch(self, blocks: Sequence[TextBlock], randoms: Sequence[Random]) -> dict[str, Any]:
        form = Continuation(self._encoder)
        batch = form.collate([b.ids[: b.first] for b in blocks], [b.ids[b.first :] for b in blocks])
        return batch | {"num_bytes": [sum(block.sizes[block.first :]) for block in blocks]}

    def losses(self, model: Any, batch: Mapping[str, Any]) -> Tensor:
        return Continuation(self._encoder).losses(model, batch)


class Spans(Objective):
    """Predict hidden spans (span corruption); a sentinel marks each span in the source and the target."""

    def __init__(self, encoder: TextEncoder, hidden_share: float, mean_span_len: float) -> None:
        super().__init__(encoder, hidden_share, mean_span_len)
        self._sentinels = encoder.sentinels
        if not self._sentinels:
            what = "the tokenizer has neither sentinels (<extra_id_0> ...) nor a mask token to hide spans"
            raise UserError("model", what)

    def num_targets(self, block: TextBlock) -> int:
        return self._num_hidden(block) + self._num_spans(block) + 1 if block.ids else 1

    def cost(self, block: TextBlock) -> int:
        hidden, spans = self._num_hidden(block), self._num_spans(block)
        return super().cost(block) - hidden + spans + self.num_targets(block)

    def _num_spans(self, block: TextBlock) -> int:
        hidden = self._num_hidden(block)
        most = min(hidden, len(block.ids) - hidden + 1, len(self._sentinels))
        return min(max(1, round(hidden / self._mean_span_len)), most) if hidden else 0

    def evaluation_batch(self, blocks: Sequence[TextBlock], randoms: Sequence[Random]) -> dict[str, Any]:
        sources, targets, num_bytes = [], [], []
        for block, random in zip(blocks, randoms):
            source: list[int] = []
            target: list[int] = []
            size = end_before = 0
            for sentinel, (begin, end) in zip(self._sentinels, self._draw(block, random)):
                source += [*block.ids[end_before:begin], sentinel]
                target += [sentinel, *block.ids[begin:end]]
                size += sum(block.sizes[begin:end])
                end_before = end
            sources.append([*self._encoder.prefix, *source, *block.ids[end_before:], *self._encoder.suffix])
            targets.append([*target, self._encoder.end])
            num_bytes.append(size)
        return Pair(self._encoder).collate(sources, targets) | {"num_bytes": num_bytes}

    def _draw(self, block: TextBlock, random: Random) -> Iterator[tuple[int, int]]:
        """Draw spans (begin, end) from left to right, with a token between neighbours."""
        num_spans, hidden = self._num_spans(block), self._num_hidden(block)
        if not num_spans:
            return
        lengths = _parts(random, hidden, num_spans)
        # At least one token between two spans; there may be none before the first and after the last.
        gaps = _parts(random, len(block.ids) - hidden + 2, num_spans + 1)
        at = -1
        for gap, length in zip(gaps, lengths):
            at += gap
            yield at, at + length
            at += length

    def losses(self, model: Any, batch: Mapping[str, Any]) -> Tensor:
        return Pair(self._encoder).losses(model, batch)


OBJECTIVES: Mapping[str, type[Objective]] = {"encoder": Masked, "decoder": Next, "encoder_decoder": Spans}


def _parts(random: Random, total: int, count: int) -> list[int]:
    """Draw `count` positive whole numbers that add up to `total`, all combinations equally likely."""
    cuts = [0, *sorted(random.sample(range(1, total), count - 1)), total]
    return [end - begin for begin, end in pairwise(cuts)]
