"""Tasks with a fixed list of labels: given in the run, or those of the train split."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.tasks.base import Task


class Labelled(Task):
    """Number the labels in order, store them with the run and pass their names to the model.

    Args:
        labels: names of the labels in order; None: the task finds them in train and calls `_set_labels`.
    """

    def __init__(self, labels: list[str] | None = None) -> None:
        self._given = list(labels) if labels else None
        self._labels: list[str] = []
        self._number: dict[str, int] = {}
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

    def state(self) -> dict[str, Any]:
        return {"labels": self._labels}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._set_labels(state["labels"])

    def model_options(self) -> dict[str, Any]:
        names = dict(enumerate(self._labels))
        return {"num_labels": len(names), "id2label": names, "label2id": dict(self._number)}
