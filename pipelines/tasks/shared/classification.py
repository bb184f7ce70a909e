"""Tasks with labels for a whole example, of any kind of input: reading them, loss, prediction, metrics."""

from __future__ import annotations

import ast
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch.nn import Module

from pipelines.errors import UserError
from pipelines.metrics.base import Metric
from pipelines.registry.option_types import Items, OnlyWith
from pipelines.tasks.base import Baseline, Batch, Example, Feature, Prediction, Raw
from pipelines.tasks.shared.label_kinds import KINDS, LabelKind, in_order
from pipelines.tasks.shared.labels import Labelled

Kind = Literal["single", "multi_label", "regression"]
Labels = Annotated[
    list[str] | None,
    Items(at_least=2, called="two or more distinct texts, such as [negative, positive]"),
    OnlyWith(option="kind", values=("single", "multi_label")),
]


class Classification(Labelled):
    """Choose one label, choose any number of labels, or predict a number (`label_kinds.py`).

    A derived task defines its inputs: `check_input`, `prepare` (whose features include `target`) and
    `collate` (whose batches hold `targets` as "labels" beside the inputs of the model).

    Args:
        labels: names of the labels, where the data has numbers (0 is the first), or to allow labels that
            train does not have; None: those of the train split.
        kind: "single", "multi_label" or "regression".
    """

    primary: ClassVar[str] = "accuracy"
    metric_names: ClassVar[tuple[str, ...]] = ("accuracy", "f1_macro", "f1_micro")
    metrics_by: ClassVar[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
        "kind": {
            "multi_label": ("f1_micro", "f1_macro", "exact_match"),
            "regression": ("pearson", "spearman", "mse"),
        }
    }

    loss_settings: ClassVar[tuple[str, ...]] = ("label_smoothing", "class_weights")
    loss_settings_by: ClassVar[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
        "kind": {"multi_label": (), "regression": ()}
    }

    def __init__(self, labels: Labels = None, kind: Kind = "single") -> None:
        self.kind = kind
        self._kind: LabelKind = KINDS[kind]()
        super().__init__(labels)

    # ---- rows
    @abstractmethod
    def check_input(self, example: Example) -> str | None:
        """Return why the columns beside the label cannot be used, as a clause; None if they can."""

    def check(self, example: Example) -> str | None:
        reason = self.check_input(example)
        return reason or (None if example.get("label") is None else self._check_label(example["label"]))

    def _check_label(self, label: object) -> str | None:
        try:
            read = self._kind.read(label, self._given)
        except LookupError as error:
            return str(error.args[0])
        stated = read if isinstance(read, list) else [read]
        new = [one for one in stated if self._labels and one not in self._number]
        return f"has the label {new[0]!r}, which no row of train has" if new else None

    def fit(self, splits: Mapping[str, Sequence[Example]]) -> None:
        if not self._given and self._kind.has_labels:
            read = [self.reference(row) for row in splits["train"]]
            found = {name for one in read for name in (one if isinstance(one, list) else [one])}
            if found and all(isinstance(one, list) and len(one) == len(found) for one in read):
                what = "every row of train has every label, so nothing can be learned"
                fix = "a yes or no for each label is written true or false, with names in task.labels"
                raise UserError("data.train", what, in_order(found), fix)
            self._set_labels(in_order(found))

    def stratum(self, example: Example) -> frozenset[str] | None:
        if not self._kind.has_labels:
            return None
        read = self.reference(example)
        return frozenset(read if isinstance(read, list) else [read])

    def check_labels(self, labels: Sequence[str]) -> None:
        wrong = [label for label in labels if not isinstance(label, str) or not label]
        if wrong or len(set(labels)) != len(labels) or len(labels) < 2:
            what = "labels must be two or more distinct texts"
            raise UserError("task.labels", what, labels, "for example [negative, positive]")

    def _set_labels(self, labels: Sequence[str]) -> None:
        if self._kind.has_labels:
            super()._set_labels(labels)
            self._kind = KINDS[self.kind](labels)

    def model_options(self) -> dict[str, Any]:
        options = super().model_options()
        if not self._kind.has_labels:
            options = {"num_labels": 1, "id2label": {0: "value"}, "label2id": {"value": 0}}
        return options | {"problem_type": self._kind.problem_type}

    def target(self, example: Example) -> Feature:
        """Return the entries of a feature about its target."""
        has_label = example.get("label") is not None
        return {
            "example_id": example["id"],
            "label": self._kind.target(self.reference(example) if has_label else None),
            "num_targets": int(has_label),
        }

    def targets(self, features: Sequence[Feature]) -> torch.Tensor:
        """Return the targets of a batch."""
        return self._kind.tensor(features)

    # ---- learning and predicting
    def loss(self, model: Module, batch: Batch) -> torch.Tensor:
        return self._kind.losses(self._logits(model, batch), batch["labels"], self.target_loss).sum()

    def predict(self, model: Module, batch: Batch) -> list[Raw]:
        logits = self._logits(model, batch)
        losses = self._kind.losses(logits, batch["labels"]).tolist()
        return [raw | {"loss": loss} for raw, loss in zip(self._kind.raws(logits), losses)]

    @staticmethod
    def _logits(model: Module, batch: Batch) -> torch.Tensor:
        """Return the logits (batch, labels), float32."""
        return model(**{name: value for name, value in batch.items() if name != "labels"}).logits.float()

    def assemble(self, example: Example, raws: Sequence[Raw]) -> Prediction:
        [raw] = raws
        return self._kind.prediction(raw)

    def answer(self, example: Example, raws: Sequence[Raw]) -> dict[str, Any]:
        """Return the prediction, and the probability of every label, highest first."""
        [raw] = raws
        return self._kind.answer(raw)

    def label_of(self, feature: Feature) -> str:
        """Return the target of a feature as text."""
        if not feature["num_targets"]:
            return "no label"
        target = feature["label"]
        if not self._kind.has_labels:
            return f"{target:g}"
        numbers = [target] if isinstance(target, int) else target
        return ", ".join(self._labels[number] for number in numbers) or "none of the labels"

    # ---- scoring
    def metric(self, name: str) -> Metric:
        return self._kind.metric(name)

    def read_prediction(self, written: Any) -> Prediction:
        """Return a label, a list of labels (Python's spelling too, as of run_classification), or a number."""
        if written is None:
            raise LookupError("is empty, where a label is needed")
        if isinstance(written, str):
            written = written.strip()
            if self.kind == "multi_label":
                written = _listed(written)
        read = self._kind.read(written, self._given)
        stated = read if isinstance(read, list) else [read]
        unknown = [one for one in stated if self._labels and one not in self._number]
        if unknown:
            known = ", ".join(self._labels)
            raise LookupError(
                f"is the label {unknown[0]!r}, and the labels are {known} (task.labels names all)"
            )
        return read

    def baselines(self, train: Sequence[Example]) -> Mapping[str, Baseline]:
        return self._kind.baselines([self.reference(example) for example in train])

    def reference(self, example: Example) -> Any:
        return self._kind.read(example["label"], self._given)


def _listed(text: str) -> list[Any]:
    """Return the list that a text spells: ["a", "b"], ['a', 'b'], or a, b."""
    if text.startswith("["):
        try:
            return list(ast.literal_eval(text))
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
            raise LookupError(f"is no list of labels: {text!r}") from error
    return [name.strip() for name in text.split(",") if name.strip()]
