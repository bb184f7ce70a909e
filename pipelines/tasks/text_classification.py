"""One label for a text, or for a pair of texts (sentiment, paraphrase, entailment: the GLUE tasks)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch.nn import functional

from pipelines.errors import UserError
from pipelines.metric import Metric
from pipelines.metrics.accuracy import Accuracy
from pipelines.metrics.classification_f1 import ClassificationF1
from pipelines.pairs import PairEncoder
from pipelines.task import Column, Example, Feature, Raw, Task

IGNORED = -100  # what cross entropy skips


class TextClassification(Task):
    """Choose one of a few labels for a text or a pair of texts.

    An input longer than `max_len` is cut at the end of its text (of the longer one of a pair, until both
    fit) and counted in `counts`. Labels are texts, or numbers with names: those of the data (ClassLabel) or
    those of the option `labels`.

    Args:
        max_len: tokens of an input, with the special tokens.
        labels: names of the labels, where the data has numbers (0 is the first), or to allow labels that
            train does not have; None: those of the train split.
    """

    head: ClassVar[str] = "sequence_classification"
    primary: ClassVar[str] = "accuracy"
    metric_names: ClassVar[tuple[str, ...]] = ("accuracy", "f1_macro", "f1_micro")
    columns: ClassVar[Mapping[str, Column]] = {
        "text": Column("text", "the text"),
        "text_pair": Column("text_pair", "the second text, in every row or in none", required=False),
        "label": Column("label", "the label, a text or a number with a name", is_target=True),
    }

    def __init__(self, max_len: int = 128, labels: list[str] | None = None) -> None:
        self.max_len = max_len
        self._given = list(labels) if labels else None
        self._labels: list[str] = []
        self._has_pairs: bool | None = None
        self.counts: Counter[str] = Counter()
        if labels:
            self._set_labels(labels)

    # ---- rows
    def check(self, example: Example) -> str | None:
        pair = example.get("text_pair")
        for name, text in {"text": example["text"], **({} if pair is None else {"text_pair": pair})}.items():
            if not isinstance(text, str):
                return f"has a {name} that is no text: {text!r}"
            if not text.strip():
                return f"has an empty {name}"
        if self._has_pairs is not None and self._has_pairs != (pair is not None):
            return f"has {'no' if self._has_pairs else 'a'} text_pair, unlike the rows of train"
        return None if example.get("label") is None else self._check_label(example["label"])

    def _check_label(self, label: Any) -> str | None:
        if isinstance(label, int) and not isinstance(label, bool):
            if self._given is None:
                fix = "give them in order, as task.labels: [negative, positive]"
                return f"has the number {label} as label, without a name ({fix})"
            if not 0 <= label < len(self._given):
                return f"has the label {label}, and task.labels names {len(self._given)}"
            return None
        if not isinstance(label, str) or not label:
            return f"has the label {label!r}, which is neither text nor a number with a name"
        if self._labels and label not in self._labels:
            return f"has the label {label!r}, which {'task.labels' if self._given else 'train'} does not have"
        return None

    def fit(self, splits: Mapping[str, Sequence[Example]]) -> None:
        rows = splits["train"]
        paired = sum(row.get("text_pair") is not None for row in rows)
        if paired not in (0, len(rows)):
            what = f"{len(rows) - paired:,} of {len(rows):,} rows of train have no second text"
            raise UserError("data.columns.text_pair", what, accepted="give every row one, or none")
        self._has_pairs = paired > 0
        if not self._given:
            self._set_labels(sorted({row["label"] for row in rows}))

    def _set_labels(self, labels: Sequence[str]) -> None:
        wrong = [label for label in labels if not isinstance(label, str) or not label]
        if wrong or len(set(labels)) != len(labels) or len(labels) < 2:
            what = "labels must be two or more distinct texts"
            raise UserError("task.labels", what, labels, "for example [negative, positive]")
        self._labels = list(labels)
        self._number = {label: number for number, label in enumerate(self._labels)}

    def state(self) -> dict[str, Any]:
        return {"labels": self._labels, "has_pairs": self._has_pairs}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._set_labels(state["labels"])
        self._has_pairs = state["has_pairs"]

    def model_options(self) -> dict[str, Any]:
        names = dict(enumerate(self._labels))
        options = {"num_labels": len(names), "id2label": names, "label2id": dict(self._number)}
        # A decoder classifies at the last token that is no padding, which it finds by this id.
        return options | {"pad_token_id": self._pad, "problem_type": "single_label_classification"}

    def texts(self, examples: Iterable[Example]) -> Iterator[str]:
        for example in examples:
            yield example["text"]
            if example.get("text_pair") is not None:
                yield example["text_pair"]

    def from_text(self, text: str) -> Example:
        if self._has_pairs:
            return super().from_text(text)
        return {"text": text}

    # ---- features and batches
    def bind(self, processor: Any, family: str) -> None:
        super().bind(processor, family)
        self._encoder = PairEncoder(processor)
        pad = processor.pad_token_id
        self._pad = pad if pad is not None else processor.eos_token_id or 0
        if self.max_len > self._encoder.max_len:
            most = f"at most {self._encoder.max_len}, which is all the model has positions for"
            raise UserError("task.max_len", "is longer than the model's inputs", self.max_len, most)
        if self.max_len < self._encoder.num_special + 2:
            least = f"at least {self._encoder.num_special + 2}"
            raise UserError("task.max_len", "has no room for a text", self.max_len, least)

    def prepare(self, examples: Sequence[Example]) -> list[Feature]:
        """One feature per example: ids, where the second segment begins, the label's number (or -100)."""
        firsts = self._encoder([example["text"] for example in examples])
        paired = [example for example in examples if example.get("text_pair") is not None]
        seconds = dict(
            zip(
                (example["id"] for example in paired),
                self._encoder([example["text_pair"] for example in paired]),
            )
        )
        return [
            self._feature(
                example, first.ids, seconds[example["id"]].ids if example["id"] in seconds else None
            )
            for example, first in zip(examples, firsts)
        ]

    def _feature(self, example: Example, first: list[int], second: list[int] | None) -> Feature:
        special = len(self._encoder.before + self._encoder.after) if second is None else None
        capacity = self.max_len - (self._encoder.num_special if special is None else special)
        kept_first, kept_second = _kept(len(first), len(second or ()), capacity)
        self.counts["examples"] += 1
        self.counts["examples_cut"] += kept_first + kept_second < len(first) + len(second or ())
        kept = None if second is None else second[:kept_second]
        ids, second_at = self._encoder.join(first[:kept_first], kept)
        has_label = example.get("label") is not None
        return {
            "example_id": example["id"],
            "input_ids": ids or [self._pad],  # a text without tokens, and a tokenizer that adds none
            "second_at": second_at,
            "label": self._number[self.reference(example)] if has_label else IGNORED,
            "num_targets": int(has_label),
        }

    def collate(self, features: Sequence[Feature]) -> dict[str, Any]:
        """Tensors (batch, len): input_ids, attention_mask, token_type_ids where the model has them;
        (batch,): label. Padding stands right."""
        shape = (len(features), max(len(feature["input_ids"]) for feature in features))
        batch = {
            "input_ids": torch.full(shape, self._pad),
            "attention_mask": torch.zeros(shape, dtype=torch.long),
            "label": torch.tensor([feature["label"] for feature in features]),
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

    # ---- learning and predicting
    def loss(self, model: Any, batch: dict[str, Any]) -> torch.Tensor:
        return functional.cross_entropy(
            self._logits(model, batch), batch["label"], ignore_index=IGNORED, reduction="sum"
        )

    def predict(self, model: Any, batch: dict[str, Any]) -> list[Raw]:
        logits = self._logits(model, batch)
        losses = functional.cross_entropy(logits, batch["label"], ignore_index=IGNORED, reduction="none")
        return [
            {"probabilities": probabilities, "loss": loss}
            for probabilities, loss in zip(logits.softmax(dim=-1).tolist(), losses.tolist())
        ]

    @staticmethod
    def _logits(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        names = ("input_ids", "attention_mask", "token_type_ids")
        return model(**{name: batch[name] for name in names if name in batch}).logits.float()

    def assemble(self, example: Example, raws: Sequence[Raw]) -> str:
        [raw] = raws
        probabilities = raw["probabilities"]
        return self._labels[probabilities.index(max(probabilities))]

    def answer(self, example: Example, raws: Sequence[Raw]) -> dict[str, Any]:
        """The label, its probability, and the probability of every label, best first."""
        [raw] = raws
        ranked = sorted(zip(self._labels, raw["probabilities"]), key=lambda pair: -pair[1])
        return {"label": ranked[0][0], "probability": ranked[0][1], "probabilities": dict(ranked)}

    def show(self, feature: Feature) -> str:
        label = "no label" if feature["label"] == IGNORED else self._labels[feature["label"]]
        return f"{self.processor.decode(feature['input_ids'])}\n  -> {label}"

    # ---- scoring
    @property
    def metrics(self) -> Mapping[str, Metric]:
        return {
            "accuracy": Accuracy(),
            "f1_macro": ClassificationF1(self._labels, "macro"),
            "f1_micro": ClassificationF1(self._labels, "micro"),
        }

    def reference(self, example: Example) -> str:
        label = example["label"]
        return self._labels[label] if isinstance(label, int) else label


def _kept(first: int, second: int, capacity: int) -> tuple[int, int]:
    """Tokens to keep of two texts so that both fit: the longer one gives way first."""
    if first + second <= capacity:
        return first, second
    if first <= capacity // 2:
        return first, capacity - first
    if second <= capacity - capacity // 2:
        return capacity - second, second
    return capacity // 2, capacity - capacity // 2
