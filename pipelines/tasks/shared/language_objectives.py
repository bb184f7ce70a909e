"""What a language model reads and what it has to say, for each family: masks, next tokens, hidden spans."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any

from torch import Tensor

from pipelines.errors import UserError
from pipelines.tasks.shared.text_encoder import TextEncoder
from pipelines.tasks.shared.token_loss import IGNORED, token_losses
from pipelines.tasks.shared.writing_forms import Continuation, Pair, padded


@dataclass(frozen=True)
class TextBlock:
    """A stretch of a text: token ids, the bytes each stands for, and the place of the first target."""

    ids: list[int]
    sizes: list[int]
    first: int = 0


class Objective(ABC):
    """What is predicted of a block."""

    def __init__(self, encoder: TextEncoder, hidden_share: float, mean_span_len: float) -> None:
        self._encoder, self._share, self._mean_span_len = encoder, hidden_share, mean_span_len

    def blocks(self, ids: list[int], sizes: list[int], max_len: int, overlap: int) -> list[TextBlock]:
        """The text in stretches that fit, without what the tokenizer puts around them; at least one."""
        room = max_len - self._encoder.num_special
        starts = range(0, max(1, len(ids)), room)
        return [TextBlock(ids[start : start + room], sizes[start : start + room]) for start in starts]

    @abstractmethod
    def num_targets(self, block: TextBlock) -> int:
        """Tokens predicted, whatever is drawn."""

    def cost(self, block: TextBlock) -> int:
        """Tokens of a block in a batch."""
        return len(block.ids) + self._encoder.num_special

    @abstractmethod
    def evaluation_batch(self, blocks: Sequence[TextBlock], randoms: Sequence[Random]) -> dict[str, Any]:
        """Tensors (batch, len), drawn from one generator per block, and `num_bytes` of its targets."""

    def training_batch(self, blocks: Sequence[TextBlock], random: Random, vocab_size: int) -> dict[str, Any]:
        """The same with draws of its own."""
        return self.evaluation_batch(blocks, [random] * len(blocks))

    @abstractmethod
    def losses(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Loss of each target `(batch, len)`, 0 elsewhere."""

    def _num_hidden(self, block: TextBlock) -> int:
        """At least one token, never all of several."""
        count = len(block.ids)
        return min(max(1, round(count * self._share)), max(1, count - 1)) if count else 0


class Masked(Objective):
    """Find the tokens under masks. In training one in ten is left and one is any other, as in BERT."""

    def __init__(self, encoder: TextEncoder, hidden_share: float, mean_span_len: float) -> None:
        super().__init__(encoder, hidden_share, mean_span_len)
        if encoder.mask is None:
            raise UserError("model", "the tokenizer has no mask token, which an encoder learns to fill in")

    def num_targets(self, block: TextBlock) -> int:
        return self._num_hidden(block)

    def evaluation_batch(self, blocks: Sequence[TextBlock], randoms: Sequence[Random]) -> dict[str, Any]:
        return self._batch(blocks, randoms, lambda random, token: self._encoder.mask)

    def training_batch(self, blocks: Sequence[TextBlock], random: Random, vocab_size: int) -> dict[str, Any]:
        def disguise(random: Random, token: int) -> int:
            chance = random.random()
            if chance < 0.8:
                return self._encoder.mask
            return token if chance < 0.9 else random.randrange(vocab_size)

        return self._batch(blocks, [random] * len(blocks), disguise)

    def _batch(self, blocks: Sequence[TextBlock], randoms: Sequence[Random], disguise: Any) -> dict[str, Any]:
        before, after = self._encoder.prefix, self._encoder.suffix
        inputs, labels, num_bytes = [], [], []
        for block, random in zip(blocks, randoms):
            shown, wanted = list(block.ids), [IGNORED] * len(block.ids)
            hidden = sorted(random.sample(range(len(shown)), self._num_hidden(block)))
            for place in hidden:
                wanted[place], shown[place] = shown[place], disguise(random, shown[place])
            inputs.append([*before, *shown, *after])
            labels.append([IGNORED] * len(before) + wanted + [IGNORED] * len(after))
            num_bytes.append(sum(block.sizes[place] for place in hidden))
        return {
            "input_ids": padded(inputs, self._encoder.pad),
            "attention_mask": padded([[1] * len(ids) for ids in inputs], 0),
            "labels": padded(labels, IGNORED),
            "num_bytes": num_bytes,
        }

    def losses(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        return token_losses(output.logits, batch["labels"])


class Next(Objective):
    """Say each next token, and where the text ends. Nothing is drawn."""

    def blocks(self, ids: list[int], sizes: list[int], max_len: int, overlap: int) -> list[TextBlock]:
        """Overlapping stretches from begin to end token; every token but the first is a target once."""
        begin = self._encoder.begin
        ids, sizes = [*begin, *ids, self._encoder.end], [*(0 for _ in begin), *sizes, 0]
        found = [TextBlock(ids[:max_len], sizes[:max_len], 1)]
        done = max_len
        while done < len(ids):
            stretch = slice(done - overlap, done - overlap + max_len)
            found.append(TextBlock(ids[stretch], sizes[stretch], overlap))
            done = stretch.stop
        return found

    def num_targets(self, block: TextBlock) -> int:
        return len(block.ids) - block.first

    def cost(self, block: TextBlock) -> int:
        return len(block.ids)

    def evaluation_batch(self, blocks: Sequence[TextBlock], randoms: Sequence[Random]) -> dict[str, Any]:
        form = Continuation(self._encoder)
        batch = form.collate([b.ids[: b.first] for b in blocks], [b.ids[b.first :] for b in blocks])
        return batch | {"num_bytes": [sum(block.sizes[block.first :]) for block in blocks]}

    def losses(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        return Continuation(self._encoder).losses(model, batch)


class Spans(Objective):
    """Say what stood in hidden spans; a sentinel stands for each of them in what is read and what is said."""

    def __init__(self, encoder: TextEncoder, hidden_share: float, mean_span_len: float) -> None:
        super().__init__(encoder, hidden_share, mean_span_len)
        self._sentinels = encoder.sentinels
        if not self._sentinels:
            what = (
                "the tokenizer has neither sentinels (<extra_id_0> ...) nor a mask token to hide spans with"
            )
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
            source, target, size, at = [], [], 0, 0
            for sentinel, (begin, end) in zip(self._sentinels, self._draw(block, random)):
                source += [*block.ids[at:begin], sentinel]
                target += [sentinel, *block.ids[begin:end]]
                size += sum(block.sizes[begin:end])
                at = end
            sources.append([*self._encoder.prefix, *source, *block.ids[at:], *self._encoder.suffix])
            targets.append([*target, self._encoder.end])
            num_bytes.append(size)
        return Pair(self._encoder).collate(sources, targets) | {"num_bytes": num_bytes}

    def _draw(self, block: TextBlock, random: Random) -> Iterator[tuple[int, int]]:
        """Spans (begin, end) from left to right, never side by side."""
        num_spans, hidden = self._num_spans(block), self._num_hidden(block)
        if not num_spans:
            return
        lengths = _parts(random, hidden, num_spans)
        # Between two spans stands at least one token; before the first and after the last there may be none.
        gaps = _parts(random, len(block.ids) - hidden + 2, num_spans + 1)
        at = -1
        for gap, length in zip(gaps, lengths):
            at += gap
            yield at, at + length
            at += length

    def losses(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        return Pair(self._encoder).losses(model, batch)


OBJECTIVES: Mapping[str, type[Objective]] = {"encoder": Masked, "decoder": Next, "encoder_decoder": Spans}


def _parts(random: Random, total: int, count: int) -> list[int]:
    """`count` whole numbers of at least 1 that add up to `total`, every choice as likely as any other."""
    cuts = [0, *sorted(random.sample(range(1, total), count - 1)), total]
    return [end - begin for begin, end in pairwise(cuts)]
