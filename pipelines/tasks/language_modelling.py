"""Language modelling: masked, causal or with span corruption, by the model family."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Module
from transformers import PreTrainedModel

from pipelines.errors import UserError
from pipelines.metrics.base import Metric
from pipelines.metrics.perplexity import Perplexity
from pipelines.registry.option_types import Count, Range
from pipelines.tasks.base import Baseline, Batch, Column, Example, Feature, Processor, Raw, Task
from pipelines.tasks.shared.fast_tokenizer import require_fast
from pipelines.tasks.shared.language_objectives import OBJECTIVES, TextBlock
from pipelines.tasks.shared.room import require_room
from pipelines.tasks.shared.text_encoder import TextEncoder
from pipelines.tasks.shared.token_loss import IGNORED
from pipelines.tasks.shared.writing_forms import Continuation

COUNTED_AT_ONCE = 100  # texts whose tokens a baseline counts in one batch


class LanguageModelling(Task):
    """Predict the tokens of a text: hidden ones (encoder), each next one (decoder) or hidden spans.

    An encoder learns masked language modelling (Devlin et al. 2019), a decoder the next token and the end of
    the text, an encoder-decoder span corruption (Raffel et al. 2020). The hidden tokens are drawn again in
    every training step; in evaluation they follow from the example's id and are always the same. A long text
    is cut into blocks; every token is in one of them (for a decoder: a target in exactly one).
    Perplexity is per predicted token; bits per byte divide by the bytes of those tokens, so only bits per
    byte can be compared across tokenizers, and neither can be compared across families.

    Args:
        max_len: tokens of a block, special ones included.
        overlap: tokens that a decoder's block repeats from the block before, as context.
        hidden_share: share of the tokens that is hidden from an encoder or an encoder-decoder.
        mean_span_len: tokens of a hidden span, on average, for an encoder-decoder.
    """

    head: ClassVar[str] = "language_modelling"
    primary: ClassVar[str] = "perplexity"
    metric_names: ClassVar[tuple[str, ...]] = ("perplexity", "bits_per_byte")
    columns: Mapping[str, Column] = {"text": Column("text", "the text to learn")}

    def __init__(
        self,
        max_len: Count = 256,
        overlap: Annotated[int, Range(at_least=0, below="max_len")] = 32,
        hidden_share: Annotated[float, Range(above=0, below=1)] = 0.15,
        mean_span_len: Annotated[float, Range(at_least=1)] = 3.0,
    ) -> None:
        self.max_len, self.overlap = max_len, overlap
        self.hidden_share, self.mean_span_len = hidden_share, mean_span_len
        self.counts: Counter[str] = Counter()

    # ---- rows
    def check(self, example: Example) -> str | None:
        text = example["text"]
        if not isinstance(text, str):
            return f"has a text that is not text but {type(text).__name__}"
        return None if text.strip() else "has an empty text"

    def texts(self, examples: Iterable[Example]) -> Iterator[str]:
        return (example["text"] for example in examples)

    def from_text(self, text: str) -> Example:
        return {"text": text}

    # ---- features and batches
    def bind(self, processor: Processor, family: str) -> None:
        super().bind(processor, family)
        require_fast(processor, "the bytes of its tokens")
        self._encoder = TextEncoder(processor)
        least = self._encoder.num_special + 2
        require_room(self.max_len, most=self._encoder.max_len, least=least, what="a text")
        self._objective = OBJECTIVES[family](self._encoder, self.hidden_share, self.mean_span_len)
        if not 1 <= self.overlap < self.max_len:
            accepted = f"1 to {self.max_len - 1}"
            raise UserError("task.overlap", "must leave room for new tokens", self.overlap, accepted)

    def prepare(self, examples: Sequence[Example]) -> list[Feature]:
        """Return the blocks of every text: `input_ids`, `num_bytes` of each, and the `first` target."""
        encoded = self._encoder.with_bytes([example["text"] for example in examples])
        features = []
        for example, (ids, sizes) in zip(examples, encoded):
            blocks = self._objective.blocks(ids, sizes, self.max_len, self.overlap)
            self.counts["examples"] += 1
            self.counts["examples_in_blocks"] += len(blocks) > 1
            features += [self._feature(example["id"], place, block) for place, block in enumerate(blocks)]
        return features

    def _feature(self, example_id: str, place: int, block: TextBlock) -> Feature:
        return {
            "example_id": example_id,
            "block": place,
            "input_ids": block.ids,
            "num_bytes": block.sizes,
            "first": block.first,
            "num_targets": self._objective.num_targets(block),
        }

    def feature_len(self, feature: Feature) -> int:
        """Return the number of tokens read and written."""
        return self._objective.cost(_block(feature))

    def collate(self, features: Sequence[Feature]) -> Batch:
        """Return the batch of evaluation, tensors (batch, len): input_ids, attention_mask, labels.

        Beside them `blocks`, from which training draws again, and `num_bytes` per feature.
        """
        blocks = [_block(feature) for feature in features]
        randoms = [Random(f"{feature['example_id']} {feature['block']}") for feature in features]
        return self._objective.evaluation_batch(blocks, randoms) | {"blocks": blocks}

    # ---- learning and predicting
    def loss(self, model: Module, batch: Batch) -> Tensor:
        """Return the summed loss; in training with newly drawn hidden tokens.

        The draws are seeded from torch's generator, which the loop seeds for every micro-batch.
        """
        if model.training:
            random = Random(int(torch.randint(2**62, ())))
            fresh = self._objective.training_batch(batch["blocks"], random, len(self.processor))
            batch = _on(batch["labels"].device, fresh)
        return self._objective.losses(model, batch).sum()

    def predict(self, model: Module, batch: Batch) -> list[Raw]:
        losses = self._objective.losses(model, batch).double().sum(dim=1).tolist()
        nums = map(self._objective.num_targets, batch["blocks"])
        return [
            {"loss": loss, "num_tokens": num_tokens, "num_bytes": num_bytes}
            for loss, num_tokens, num_bytes in zip(losses, nums, batch["num_bytes"])
        ]

    def generate(
        self, model: PreTrainedModel, prompt: str, search: Mapping[str, Any], count: int = 1
    ) -> list[str]:
        """Return `count` texts that a decoder writes after `prompt`, each up to the end token.

        Args:
            search: arguments of the model's `generate`; `max_new_tokens` is one of them.

        Raises:
            UserError: prompt and new tokens need more positions than the model has.
        """
        prompt_ids = [*self._encoder.begin, *self._encoder([prompt])[0]]
        needed = len(prompt_ids) + search["max_new_tokens"]
        if needed > self._encoder.max_len:
            what = (
                f"the prompt of {len(prompt_ids)} tokens and {search['max_new_tokens']} new ones do not fit"
            )
            raise UserError("--max-new-tokens", what, needed, f"at most {self._encoder.max_len} together")
        form = Continuation(self._encoder)
        batch = form.collate([prompt_ids] * count, [[]] * count)
        batch = _on(model.device, batch)
        # Decoded together with the prompt: alone, some tokenizers drop the space before the first word.
        decoded_prompt = self._decode(prompt_ids)
        return [
            self._decode([*prompt_ids, *tokens]).removeprefix(decoded_prompt)
            for tokens in form.generate(model, batch, search)
        ]

    def _decode(self, ids: Sequence[int]) -> str:
        return self.processor.decode(ids, skip_special_tokens=True)

    def assemble(self, example: Example, raws: Sequence[Raw]) -> dict[str, float]:
        """Return the negative log-likelihood of the text in nats, and its number of tokens and bytes."""
        return {
            "nll": math.fsum(raw["loss"] for raw in raws),
            "num_tokens": sum(raw["num_tokens"] for raw in raws),
            "num_bytes": sum(raw["num_bytes"] for raw in raws),
        }

    # ---- scoring
    def metric(self, name: str) -> Metric:
        return Perplexity("byte" if name == "bits_per_byte" else "token")

    def baselines(self, train: Sequence[Example]) -> Mapping[str, Baseline]:
        counts: Counter[int] = Counter()
        for begin in range(0, len(train), COUNTED_AT_ONCE):
            counts.update(self._targets(train[begin : begin + COUNTED_AT_ONCE])[0])
        size = counts.total() + len(self.processor)  # add-one smoothing

        def by_frequency(example: Example) -> dict[str, float]:
            labels, num_bytes = self._targets([example])
            nll = -math.fsum(math.log((counts[label] + 1) / size) for label in labels)
            return {"nll": nll, "num_tokens": len(labels), "num_bytes": num_bytes}

        return {"tokens by their frequency": by_frequency}

    def _targets(self, examples: Sequence[Example]) -> tuple[list[int], int]:
        """Return the target ids of texts in evaluation, and their bytes."""
        batch = self.collate(self.prepare(examples))
        return batch["labels"][batch["labels"] != IGNORED].tolist(), sum(batch["num_bytes"])

    def reference(self, example: Example) -> None:
        """Return None: a text is its own reference."""
        return None


def _on(device: torch.device, batch: Batch) -> Batch:
    """Return a batch with its tensors on the device."""
    return {n: value.to(device) if isinstance(value, Tensor) else value for n, value in batch.items()}


def _block(feature: Feature) -> TextBlock:
    return TextBlock(feature["input_ids"], feature["num_bytes"], feature["first"])
