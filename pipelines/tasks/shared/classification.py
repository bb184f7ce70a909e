"""One label per example, whatever the example is: labels and their names, loss, answer, scores."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch.nn import functional

from pipelines.errors import UserError
from pipelines.metrics.accuracy import Accuracy
from pipelines.metrics.base import Metric
from pipelines.metrics.classification_f1 import ClassificationF1
from pipelines.tasks.base import Example, Feature, Raw, Trivial
from pipelines.tasks.shared.labels import Labelled

IGNORED = -100  # what cross entropy skips


class Classification(Labelled):
    """Choose one of a few labels.

    A task below says how its inputs look: `check_input`, `prepare` (whose features take `target`), `collate`
    (whose batches hold "labels" beside what the model reads).

    Args:
        labels: names of the labels, where the data has numbers (0 is the first), or to allow labels that
            train does not have; None: those of the train split.
    """

    primary: ClassVar[str] = "accuracy"
    metric_names: ClassVar[tuple[str, ...]] = ("accuracy", "f1_macro", "f1_micro")

    # ---- rows
    @abstractmethod
    def check_input(self, example: Example) -> str | None:
        """Why what stands beside the label cannot be used, as a clause; None when it can."""

    def check(self, example: Example) -> str | None:
        reason = self.check_input(example)
        return reason or (None if example.get("label") is None else self._check_label(example["label"]))

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
        if not self._given:
            self._set_labels(sorted({row["label"] for row in splits["train"]}))

    def check_labels(self, labels: Sequence[str]) -> None:
        wrong = [label for label in labels if not isinstance(label, str) or not label]
        if wrong or len(set(labels)) != len(labels) or len(labels) < 2:
            what = "labels must be two or more distinct texts"
            raise UserError("task.labels", what, labels, "for example [negative, positive]")

    def model_options(self) -> dict[str, Any]:
        return super().model_options() | {"problem_type": "single_label_classification"}

    def target(self, example: Example) -> Feature:
        """The part of a feature that says what is to be learned: the label's number (or -100)."""
        has_label = example.get("label") is not None
        return {
            "example_id": example["id"],
            "label": self._number[self.reference(example)] if has_label else IGNORED,
            "num_targets": int(has_label),
        }

    # ---- learning and predicting
    def loss(self, model: Any, batch: dict[str, Any]) -> torch.Tensor:
        return functional.cross_entropy(
            self._logits(model, batch), batch["labels"], ignore_index=IGNORED, reduction="sum"
        )

    def predict(self, model: Any, batch: dict[str, Any]) -> list[Raw]:
        logits = self._logits(model, batch)
        losses = functional.cross_entropy(logits, batch["labels"], ignore_index=IGNORED, reduction="none")
        return [
            {"probabilities": probabilities, "loss": loss}
            for probabilities, loss in zip(logits.softmax(dim=-1).tolist(), losses.tolist())
        ]

    @staticmethod
    def _logits(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(batch, labels), float32."""
        return model(**{name: value for name, value in batch.items() if name != "labels"}).logits.float()

    def assemble(self, example: Example, raws: Sequence[Raw]) -> str:
        [raw] = raws
        probabilities = raw["probabilities"]
        return self._labels[probabilities.index(max(probabilities))]

    def answer(self, example: Example, raws: Sequence[Raw]) -> dict[str, Any]:
        """The label, its probability, and the probability of every label, best first."""
        [raw] = raws
        ranked = sorted(zip(self._labels, raw["probabilities"]), key=lambda pair: -pair[1])
        return {"label": ranked[0][0], "probability": ranked[0][1], "probabilities": dict(ranked)}

    def label_of(self, feature: Feature) -> str:
        """The label of a feature, for a reader."""
        return "no label" if feature["label"] == IGNORED else self._labels[feature["label"]]

    # ---- scoring
    @property
    def metrics(self) -> Mapping[str, Metric]:
        return {
            "accuracy": Accuracy(),
            "f1_macro": ClassificationF1(self._labels, "macro"),
            "f1_micro": ClassificationF1(self._labels, "micro"),
        }

    def trivial(self, train: Sequence[Example]) -> Mapping[str, Trivial]:
        [(label, _)] = Counter(map(self.reference, train)).most_common(1)
        return {"most frequent label": lambda example: label}

    def reference(self, example: Example) -> str:
        label = example["label"]
        return self._labels[label] if isinstance(label, int) else label
