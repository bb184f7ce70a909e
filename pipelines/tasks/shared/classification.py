"""Tasks with one label per example, of any kind of input: labels, loss, prediction, metrics."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch.nn import Module, functional

from pipelines.errors import UserError
from pipelines.metrics.accuracy import Accuracy
from pipelines.metrics.base import Metric
from pipelines.metrics.classification_f1 import ClassificationF1
from pipelines.tasks.base import Baseline, Batch, Example, Feature, Raw
from pipelines.tasks.shared.labels import Labelled

IGNORED = -100  # label of an example without one


class Classification(Labelled):
    """Choose one of a few labels.

    A derived task defines its inputs: `check_input`, `prepare` (whose features include `target`) and
    `collate` (whose batches hold "labels" beside the inputs of the model).

    Args:
        labels: names of the labels, where the data has numbers (0 is the first), or to allow labels that
            train does not have; None: those of the train split.
    """

    primary: ClassVar[str] = "accuracy"
    metric_names: ClassVar[tuple[str, ...]] = ("accuracy", "f1_macro", "f1_micro")

    # ---- rows
    @abstractmethod
    def check_input(self, example: Example) -> str | None:
        """Return why the columns beside the label cannot be used, as a clause; None if they can."""

    def check(self, example: Example) -> str | None:
        reason = self.check_input(example)
        return reason or (None if example.get("label") is None else self._check_label(example["label"]))

    def _check_label(self, label: object) -> str | None:
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
            place = "task.labels does not list" if self._given else "no row of train has"
            return f"has the label {label!r}, which {place}"
        return None

    def fit(self, splits: Mapping[str, Sequence[Example]]) -> None:
        if not self._given:
            self._set_labels(sorted({row["label"] for row in splits["train"]}))

    def stratum(self, example: Example) -> str | None:
        return str(example["label"])

    def check_labels(self, labels: Sequence[str]) -> None:
        wrong = [label for label in labels if not isinstance(label, str) or not label]
        if wrong or len(set(labels)) != len(labels) or len(labels) < 2:
            what = "labels must be two or more distinct texts"
            raise UserError("task.labels", what, labels, "for example [negative, positive]")

    def model_options(self) -> dict[str, Any]:
        return super().model_options() | {"problem_type": "single_label_classification"}

    def target(self, example: Example) -> Feature:
        """Return the entries of a feature about its target: the number of the label (or -100)."""
        has_label = example.get("label") is not None
        return {
            "example_id": example["id"],
            "label": self._number[self.reference(example)] if has_label else IGNORED,
            "num_targets": int(has_label),
        }

    # ---- learning and predicting
    def loss(self, model: Module, batch: Batch) -> torch.Tensor:
        return functional.cross_entropy(
            self._logits(model, batch), batch["labels"], ignore_index=IGNORED, reduction="sum"
        )

    def predict(self, model: Module, batch: Batch) -> list[Raw]:
        logits = self._logits(model, batch)
        losses = functional.cross_entropy(logits, batch["labels"], ignore_index=IGNORED, reduction="none")
        return [
            {"probabilities": probabilities, "loss": loss}
            for probabilities, loss in zip(logits.softmax(dim=-1).tolist(), losses.tolist())
        ]

    @staticmethod
    def _logits(model: Module, batch: Batch) -> torch.Tensor:
        """Return the logits (batch, labels), float32."""
        return model(**{name: value for name, value in batch.items() if name != "labels"}).logits.float()

    def assemble(self, example: Example, raws: Sequence[Raw]) -> str:
        [raw] = raws
        probabilities = raw["probabilities"]
        return self._labels[probabilities.index(max(probabilities))]

    def answer(self, example: Example, raws: Sequence[Raw]) -> dict[str, Any]:
        """Return the label, its probability, and the probability of every label, highest first."""
        [raw] = raws
        ranked = sorted(zip(self._labels, raw["probabilities"]), key=lambda pair: -pair[1])
        return {"label": ranked[0][0], "probability": ranked[0][1], "probabilities": dict(ranked)}

    def label_of(self, feature: Feature) -> str:
        """Return the label of a feature as text."""
        return "no label" if feature["label"] == IGNORED else self._labels[feature["label"]]

    # ---- scoring
    def metric(self, name: str) -> Metric:
        if name == "accuracy":
            return Accuracy()
        return ClassificationF1(self._labels, "macro" if name == "f1_macro" else "micro")

    def baselines(self, train: Sequence[Example]) -> Mapping[str, Baseline]:
        [(label, _)] = Counter(map(self.reference, train)).most_common(1)
        return {"most frequent label": lambda example: label}

    def reference(self, example: Example) -> str:
        return self.named(example["label"])
