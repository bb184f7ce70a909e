"""What an example is labelled with: one label, any number of labels, or a number to predict."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional

from pipelines.metrics.accuracy import Accuracy
from pipelines.metrics.base import Metric
from pipelines.metrics.classification_f1 import ClassificationF1
from pipelines.metrics.exact_match import ExactMatch
from pipelines.metrics.mse import MeanSquaredError
from pipelines.metrics.pearson import Pearson
from pipelines.metrics.spearman import Spearman
from pipelines.shown import with_point
from pipelines.tasks.base import Baseline, Feature, Prediction, Raw
from pipelines.tasks.shared.target_loss import IGNORED, PLAIN, TargetLoss

THRESHOLD = 0.5  # probability from which one of several labels is predicted, as pipelines of transformers do
WORDS = {"false": 0, "true": 1}
LARGEST = math.sqrt(torch.finfo(torch.float32).max)  # number whose squared error is finite


class LabelKind(ABC):
    """How labels are read, learned, predicted and scored.

    Args:
        names: the labels in order; empty for numbers to predict.
    """

    problem_type: ClassVar[str]  # of the config of the model: pipelines of transformers follow it
    has_labels: ClassVar[bool] = True

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = list(names)
        self.number = {name: number for number, name in enumerate(self.names)}

    @abstractmethod
    def read(self, label: object, names: Sequence[str] | None) -> Any:
        """Return what a row states: a name, a list of names or a number.

        Args:
            names: names of numbered labels, in order; None: a number is its own name.

        Raises:
            LookupError: it states something else; the message is a clause.
        """

    @abstractmethod
    def target(self, read: Any) -> Any:
        """Return the target of a feature; `read` is None for an example without a label."""

    @abstractmethod
    def tensor(self, features: Sequence[Feature]) -> torch.Tensor:
        """Return the targets of a batch."""

    @abstractmethod
    def losses(
        self, logits: torch.Tensor, targets: torch.Tensor, target_loss: TargetLoss = PLAIN
    ) -> torch.Tensor:
        """Return the loss of each example, 0 without a label: `(batch,)`.

        Args:
            target_loss: the loss of one label; other kinds have their own.
        """

    @abstractmethod
    def raws(self, logits: torch.Tensor) -> list[dict[str, Any]]:
        """Return what each example's prediction is made from."""

    @abstractmethod
    def prediction(self, raw: Raw) -> Prediction:
        """Return the prediction in the form of `read`."""

    @abstractmethod
    def answer(self, raw: Raw) -> dict[str, Any]:
        """Return the prediction with all its probabilities, JSON-able."""

    @abstractmethod
    def metric(self, name: str) -> Metric:
        """Return the metric of a name."""

    @abstractmethod
    def baselines(self, train: Sequence[Any]) -> Mapping[str, Baseline]:
        """Return baselines from what the rows of train state."""


class SingleLabel(LabelKind):
    """One of a few labels: softmax and cross entropy."""

    problem_type: ClassVar[str] = "single_label_classification"

    def read(self, label: object, names: Sequence[str] | None) -> str:
        if isinstance(label, list | tuple | np.ndarray):
            raise LookupError("has a list of labels (task.kind: multi_label learns them)")
        return name_of(label, names)

    def target(self, read: str | None) -> int:
        return IGNORED if read is None else self.number[read]

    def tensor(self, features: Sequence[Feature]) -> torch.Tensor:
        return torch.tensor([feature["label"] for feature in features])

    def losses(
        self, logits: torch.Tensor, targets: torch.Tensor, target_loss: TargetLoss = PLAIN
    ) -> torch.Tensor:
        return target_loss(logits, targets)

    def raws(self, logits: torch.Tensor) -> list[dict[str, Any]]:
        return [{"probabilities": row} for row in logits.softmax(dim=-1).cpu().numpy()]

    def prediction(self, raw: Raw) -> str:
        return self.names[int(np.argmax(raw["probabilities"]))]

    def answer(self, raw: Raw) -> dict[str, Any]:
        ranked = _ranked(self.names, raw)
        label, probability = next(iter(ranked.items()))
        return {"label": label, "probability": probability, "probabilities": ranked}

    def metric(self, name: str) -> Metric:
        return Accuracy() if name == "accuracy" else _f1(self.names, name)

    def baselines(self, train: Sequence[str]) -> Mapping[str, Baseline]:
        [(label, _)] = Counter(train).most_common(1)
        return {"most frequent label": lambda example: label}


class MultiLabel(LabelKind):
    """Any number of labels, in a list: a sigmoid and binary cross entropy for each; their mean counts."""

    problem_type: ClassVar[str] = "multi_label_classification"

    def read(self, label: object, names: Sequence[str] | None) -> list[str]:
        if not isinstance(label, list | tuple | np.ndarray):
            raise LookupError(f"has a label where kind multi_label needs a list of labels: {label!r}")
        values = list(label)
        answers = all(isinstance(one, bool | float) for one in values)
        if names and len(values) == len(names) and answers:
            if any(one not in (0, 1) for one in values):
                raise LookupError(f"has the labels {values!r}, which are not all 0.0 or 1.0")
            return [name for name, value in zip(names, values) if value]
        if len(values) > 1 and answers and set(values) <= {0, 1}:
            there = f"task.labels names {len(names)}" if names else "task.labels does not name the labels"
            raise LookupError(f"has a yes or no for each of {len(values)} labels, and {there}: {values!r}")
        if names and len(names) == 2 and values in ([0, 1], [1, 0]):  # longer ones have a number twice
            what = "has a list that may be both labels, or a yes or no for each"
            raise LookupError(f"{what} (write names, or true and false): {values!r}")
        found = [name_of(one, names) for one in values]
        if len(set(found)) != len(found):
            fix = "a yes or no for each label is written true or false, or 1.0 or 0.0"
            raise LookupError(f"has one label twice ({fix}): {values!r}")
        return sorted(found, key=lambda name: self.number.get(name, 0))

    def target(self, read: list[str] | None) -> list[int]:
        return [IGNORED] if read is None else [self.number[name] for name in read]

    def tensor(self, features: Sequence[Feature]) -> torch.Tensor:
        targets = torch.zeros(len(features), len(self.names))
        for row, feature in enumerate(features):
            if feature["label"] == [IGNORED]:
                targets[row] = IGNORED
            else:
                targets[row, list(feature["label"])] = 1
        return targets

    def losses(
        self, logits: torch.Tensor, targets: torch.Tensor, target_loss: TargetLoss = PLAIN
    ) -> torch.Tensor:
        losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return losses.masked_fill(targets == IGNORED, 0).mean(dim=-1)

    def raws(self, logits: torch.Tensor) -> list[dict[str, Any]]:
        return [{"probabilities": row} for row in logits.sigmoid().cpu().numpy()]

    def prediction(self, raw: Raw) -> list[str]:
        return [name for name, found in zip(self.names, raw["probabilities"]) if found >= THRESHOLD]

    def answer(self, raw: Raw) -> dict[str, Any]:
        return {"labels": self.prediction(raw), "probabilities": _ranked(self.names, raw)}

    def metric(self, name: str) -> Metric:
        return ExactMatch() if name == "exact_match" else _f1(self.names, name)

    def baselines(self, train: Sequence[list[str]]) -> Mapping[str, Baseline]:
        [(labels, _)] = Counter(map(tuple, train)).most_common(1)
        return {"most frequent labels": lambda example: list(labels)}


class Regression(LabelKind):
    """A number to predict: one output and its squared error."""

    problem_type: ClassVar[str] = "regression"
    has_labels: ClassVar[bool] = False

    def read(self, label: object, names: Sequence[str] | None) -> float:
        try:
            value = float(label) if isinstance(label, str | int | float | np.number) else math.nan
        except (ValueError, OverflowError):
            value = math.nan
        if not math.isfinite(value):
            what = f"has a label where kind regression needs a number: {label!r}"
            raise LookupError(what + with_point(label))
        if abs(value) > LARGEST:
            raise LookupError(
                f"has a label whose square is too large for float32 (scale the labels): {value!r}"
            )
        return value

    def target(self, read: float | None) -> float:
        return math.nan if read is None else read

    def tensor(self, features: Sequence[Feature]) -> torch.Tensor:
        return torch.tensor([feature["label"] for feature in features], dtype=torch.float32)

    def losses(
        self, logits: torch.Tensor, targets: torch.Tensor, target_loss: TargetLoss = PLAIN
    ) -> torch.Tensor:
        known = ~targets.isnan()
        return (logits[:, 0] - targets.where(known, logits[:, 0].detach())).square()

    def raws(self, logits: torch.Tensor) -> list[dict[str, Any]]:
        return [{"value": value} for value in logits[:, 0].tolist()]

    def prediction(self, raw: Raw) -> float:
        return raw["value"]

    def answer(self, raw: Raw) -> dict[str, Any]:
        return {"value": raw["value"]}

    def metric(self, name: str) -> Metric:
        metrics: list[Metric] = [Pearson(), Spearman(), MeanSquaredError()]
        return next(metric for metric in metrics if metric.name == name)

    def baselines(self, train: Sequence[float]) -> Mapping[str, Baseline]:
        mean = fmean(train)
        return {"mean of train": lambda example: mean}


KINDS: Mapping[str, type[LabelKind]] = {
    "single": SingleLabel,
    "multi_label": MultiLabel,
    "regression": Regression,
}


def name_of(label: object, names: Sequence[str] | None) -> str:
    """Return the name of one label: a text, or a number, written as 1, 1.0, true or a text of these.

    Args:
        names: names of numbered labels, in order; None: a number is its own name.

    Raises:
        LookupError: it is none of these, or a number without a name; the message is a clause.
    """
    if isinstance(label, str) and label and (names is None or label in names):
        return label
    number = _number(label)
    if number is None:
        if isinstance(label, str) and label:
            raise LookupError(f"has the label {label!r}, which task.labels does not list")
        if isinstance(label, float):  # without the number, so that such rows are counted together
            raise LookupError("has a label that is no whole number (task.kind: regression predicts numbers)")
        raise LookupError(f"has the label {label!r}, which is neither text nor a number")
    if number < 0:
        raise LookupError(f"has the label {number}, which data sets use for no label")
    if names is None:
        return str(label).lower() if isinstance(label, bool | np.bool_) else str(number)
    if number >= len(names):
        raise LookupError(f"has the label {number}, and task.labels names {len(names)}, from 0 on")
    return names[number]


def _number(label: object) -> int | None:
    """Return the whole number that a label states, in any type; None if it states none."""
    if isinstance(label, str):
        if label.lower() in WORDS:
            return WORDS[label.lower()]
        try:
            label = float(label)
        except ValueError:
            return None
    if isinstance(label, int):  # of any size
        return int(label)
    if not isinstance(label, float | np.number | np.bool_) or not float(label).is_integer():
        return None
    return int(label)


def in_order(labels: set[str]) -> list[str]:
    """Return labels in order: whole numbers by their size, anything else as text."""
    return sorted(labels, key=int) if all(map(str.isdecimal, labels)) else sorted(labels)


def _f1(names: Sequence[str], name: str) -> Metric:
    return ClassificationF1(names, "macro" if name == "f1_macro" else "micro")


def _ranked(names: Sequence[str], raw: Raw) -> dict[str, float]:
    """Return the probability of every label, highest first."""
    probabilities = np.asarray(raw["probabilities"]).tolist()
    return dict(sorted(zip(names, probabilities), key=lambda pair: -pair[1]))
