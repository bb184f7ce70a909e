"""Tasks with a fixed list of labels: given in the run, or those of the train split."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.errors import UserError
from pipelines.tasks.base import Example, Task
from pipelines.tasks.shared.target_loss import TargetLoss


class Labelled(Task):
    """Number the labels in order, store them with the run and pass their names to the model.

    Args:
        labels: names of the labels in order; None: the task finds them in train and calls `_set_labels`.
    """

    def __init__(self, labels: list[str] | None = None) -> None:
        self._given = list(labels) if labels else None
        self._labels: list[str] = []
        self._number: dict[str, int] = {}
        self.class_weights: dict[str, float] = {}  # by label; empty: all 1
        self.counts: Counter[str] = Counter()
        if labels:
            self._set_labels(labels)

    @abstractmethod
    def check_labels(self, labels: Sequence[str]) -> None:
        """Refuse labels that this task cannot have.

        Raises:
            UserError: with what they must be.
        """

    def _set_labels(self, labels: Sequence[str]) -> None:
        self.check_labels(labels)
        self._labels = list(labels)
        self._number = {label: number for number, label in enumerate(self._labels)}

    @property
    def labels(self) -> list[str]:
        """The labels, in the order in which the model has them."""
        return self._labels

    def set_order(self, labels: Sequence[str]) -> None:
        """Number the same labels in another order; a number in the data keeps the name that was given."""
        assert sorted(labels) == sorted(self._labels), "these are other labels"
        self._set_labels(labels)

    def named(self, label: str | int) -> str:
        """Return the name of a label of the data, which is a name or a number of the given ones."""
        return (self._given or self._labels)[label] if isinstance(label, int) else label

    # ---- the loss in training
    def weigh(self, wanted: str | Sequence[float], rows: Sequence[Example]) -> None:
        """Weigh the loss of each label: by `wanted`, in the order of the labels, or inversely to its count.

        "balanced" is n / (number of labels x count of the label) as in scikit-learn, with the n targets of
        `rows`: the mean weight of a target is 1.

        Raises:
            UserError: there is not one weight for each label, or no target of a label to count.
        """
        names = self._labels
        if not isinstance(wanted, str):
            if len(wanted) != len(names):
                accepted = f"one for each of {', '.join(names)}"
                raise UserError(
                    "class_weights", "the task has another number of labels", list(wanted), accepted
                )
            self.class_weights = dict(zip(names, wanted))
            return
        stated = (self.reference(row) for row in rows)
        counts = Counter(name for one in stated for name in ([one] if isinstance(one, str) else one))
        unseen = [name for name in names if not counts[name]]
        if unseen:
            what = f"train has no target with the label {unseen[0]!r}, so nothing balances it"
            raise UserError("class_weights", what, accepted="give a list of weights, one for each label")
        self.class_weights = {name: counts.total() / (len(names) * counts[name]) for name in names}

    def weights_line(self) -> str:
        """Return a line with the weight of each label."""
        return "class weights: " + ", ".join(
            f"{name} {self.class_weights[name]:.3g}" for name in self._labels
        )

    @property
    def target_loss(self) -> TargetLoss:
        """The loss of a target in training, as the run wants it."""
        weights = tuple(self.class_weights[name] for name in self._labels) if self.class_weights else None
        return TargetLoss(self.label_smoothing, weights)

    def state(self) -> dict[str, Any]:
        return {"labels": self._labels}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._set_labels(state["labels"])

    def model_options(self) -> dict[str, Any]:
        names = dict(enumerate(self._labels))
        return {"num_labels": len(names), "id2label": names, "label2id": dict(self._number)}
