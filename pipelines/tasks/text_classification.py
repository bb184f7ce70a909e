"""Labels or a number for a text or a pair of texts (sentiment, entailment, similarity: the GLUE tasks)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch

from pipelines.errors import UserError
from pipelines.registry.option_types import Count
from pipelines.tasks.base import Batch, Column, Example, Feature, Processor
from pipelines.tasks.shared.classification import Classification, Kind, Labels
from pipelines.tasks.shared.pair_encoder import PairEncoder
from pipelines.tasks.shared.room import require_room


class TextClassification(Classification):
    """Choose one of a few labels for a text or a pair of texts, choose several, or predict a number.

    An input longer than `max_len` is cut at the end of its text (of the longer one of a pair, until both
    fit) and counted in `counts`. Labels are texts, or numbers (0, 0.0, false, "0") with the names of the data
    (ClassLabel) or of the option `labels`; without names, a number is its own name.

    Args:
        max_len: tokens of an input, with the special tokens.
        labels: names of the labels, where the data has numbers (0 is the first), or to allow labels that
            train does not have; None: those of the train split.
        kind: "single" (one label), "multi_label" (a list of labels) or "regression" (a number to predict).
    """

    head: ClassVar[str] = "sequence_classification"
    columns: Mapping[str, Column] = {
        "text": Column("text", "the text"),
        "text_pair": Column("text_pair", "the second text, in every row or in none", required=False),
        "label": Column("label", "the label, a list of labels or a number (task.kind)", is_target=True),
    }

    def __init__(self, max_len: Count = 128, labels: Labels = None, kind: Kind = "single") -> None:
        super().__init__(labels, kind)
        self.max_len = max_len
        self._has_pairs: bool | None = None

    # ---- rows
    def check_input(self, example: Example) -> str | None:
        pair = example.get("text_pair")
        for name, text in {"text": example["text"], **({} if pair is None else {"text_pair": pair})}.items():
            if not isinstance(text, str):
                return f"has a {name} that is not text: {text!r}"
            if not text.strip():
                return f"has an empty {name}"
        if self._has_pairs is not None and self._has_pairs != (pair is not None):
            return f"has {'no' if self._has_pairs else 'a'} text_pair, unlike the rows of train"
        return None

    def fit(self, splits: Mapping[str, Sequence[Example]]) -> None:
        rows = splits["train"]
        paired = sum(row.get("text_pair") is not None for row in rows)
        if paired not in (0, len(rows)):
            what = f"{len(rows) - paired:,} of {len(rows):,} rows of train have no second text"
            raise UserError("data.columns.text_pair", what, accepted="give every row one, or none")
        self._has_pairs = paired > 0
        super().fit(splits)

    def state(self) -> dict[str, Any]:
        return super().state() | {"has_pairs": self._has_pairs}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self._has_pairs = state["has_pairs"]

    def model_options(self) -> dict[str, Any]:
        # A decoder classifies at the last token that is not padding, which it finds by this id.
        return super().model_options() | {"pad_token_id": self._pad}

    def texts(self, examples: Iterable[Example]) -> Iterator[str]:
        for example in examples:
            yield example["text"]
            if example.get("text_pair") is not None:
                yield example["text_pair"]

    def from_text(self, text: str) -> Example:
        if self._has_pairs:
            what, fix = (
                "a line of plain text is not enough for this task",
                "give JSON lines with text and text_pair",
            )
            raise UserError("--input", what, accepted=fix)
        return {"text": text}

    # ---- features and batches
    def bind(self, processor: Processor, family: str) -> None:
        super().bind(processor, family)
        self._encoder = PairEncoder(processor)
        pad = processor.pad_token_id
        self._pad = pad if pad is not None else processor.eos_token_id or 0
        least = self._encoder.num_special + 2
        require_room(self.max_len, most=self._encoder.max_len, least=least, what="a text")

    def prepare(self, examples: Sequence[Example]) -> list[Feature]:
        """Return one feature per example: ids, where the second text begins, the label's number (or -100)."""
        firsts = self._encoder([example["text"] for example in examples])
        paired = [example for example in examples if example.get("text_pair") is not None]
        encoded = self._encoder([example["text_pair"] for example in paired])
        seconds = {example["id"]: tokens.ids for example, tokens in zip(paired, encoded)}
        return [
            self._feature(example, first.ids, seconds.get(example["id"]))
            for example, first in zip(examples, firsts)
        ]

    def _feature(self, example: Example, first: list[int], second: list[int] | None) -> Feature:
        around_one = len(self._encoder.before) + len(self._encoder.after)
        capacity = self.max_len - (around_one if second is None else self._encoder.num_special)
        kept_first, kept_second = _kept(len(first), len(second or ()), capacity)
        self.counts["examples"] += 1
        self.counts["examples_cut"] += kept_first + kept_second < len(first) + len(second or ())
        kept = None if second is None else second[:kept_second]
        ids, second_at = self._encoder.join(first[:kept_first], kept)
        return {
            **self.target(example),
            "input_ids": ids or [self._pad],  # a text without tokens, and a tokenizer that adds none
            "second_at": second_at,
        }

    def collate(self, features: Sequence[Feature]) -> Batch:
        """Return the batch, padded on the right.

        Tensors (batch, len): input_ids, attention_mask, token_type_ids where the model has them;
        labels, (batch,) or, of any number of labels, (batch, labels).
        """
        shape = (len(features), max(len(feature["input_ids"]) for feature in features))
        batch = {
            "input_ids": torch.full(shape, self._pad),
            "attention_mask": torch.zeros(shape, dtype=torch.long),
            "labels": self.targets(features),
        }
        if self._encoder.has_segments:
            batch["token_type_ids"] = torch.zeros(shape, dtype=torch.long)
        for row, feature in enumerate(features):
            length = len(feature["input_ids"])
            batch["input_ids"][row, :length] = torch.tensor(feature["input_ids"])
            batch["attention_mask"][row, :length] = 1
            if self._encoder.has_segments:
                batch["token_type_ids"][row, feature["second_at"] : length] = 1
        return batch

    def show(self, feature: Feature) -> str:
        return f"{self.decoded(feature['input_ids'])}\n  -> {self.label_of(feature)}"


def _kept(first: int, second: int, capacity: int) -> tuple[int, int]:
    """Return how many tokens to keep of two texts so that both fit: the longer one is cut first."""
    if first + second <= capacity:
        return first, second
    if first <= capacity // 2:
        return first, capacity - first
    if second <= capacity - capacity // 2:
        return capacity - second, second
    return capacity // 2, capacity - capacity // 2
