"""The contract of a task: what a file under `tasks/` must say, and nothing about training or attention."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pipelines.errors import UserError
from pipelines.metrics.base import Metric

Example = Mapping[str, Any]  # one row under its canonical column names, plus "id"
Feature = dict[str, Any]  # one model input: lists, numbers, bytes; plus "example_id" and "num_targets"
Raw = Mapping[str, Any]  # what a model says of one feature
Prediction = Any  # JSON-able; one per example
Trivial = Callable[[Example], Prediction]  # a prediction without a model


@dataclass(frozen=True)
class Column:
    """One canonical column: its default name in the data, what it holds, whether a row can do without."""

    default: str
    meaning: str
    required: bool = True
    is_target: bool = False  # learning and scoring need it; `attnlab predict` does without


class Task(ABC):
    """What a model is trained to do, from rows to scores.

    The life of a task in a run: `__init__(**options)`, `fit(train rows)`, `bind(processor, family)`, then
    `prepare`, `collate`, `loss` in training and `predict`, `assemble` in evaluation.
    A task sees plain transformers models. It imports neither accelerate nor custom_attention.
    """

    reads: ClassVar[str] = "text"  # row of the table in `models/processor.py`: text, image, audio or series
    head: ClassVar[str]  # row of the model table in `models/build.py`, such as "token_classification"
    primary: ClassVar[str]  # the metric that selects checkpoints unless the run says otherwise
    columns: ClassVar[Mapping[str, Column]]  # canonical name -> column
    evaluation_overhead: ClassVar[int] = 300  # what one more batch costs besides its tokens, in tokens

    processor: Any = None
    family: str = ""

    # ---- rows
    def check(self, example: Example) -> str | None:
        """Why this row cannot be used, as a clause ("has 12 tokens and 11 labels"); None when it can.

        Columns with `is_target` are absent when a row is only to be predicted.
        """
        return None

    def cluster(self, example: Example) -> str:
        """Rows that share a source (questions about one text) share a cluster: they err together, and the
        statistics count clusters, not rows."""
        return str(example.get("cluster", example["id"]))

    def shown(self, example: Example) -> Any:
        """What an example is predicted from, for the reader of a report: its one input, or all as text."""
        needed = [name for name, c in self.columns.items() if c.required and not c.is_target]
        values = [example[name] for name in needed]
        return values[0] if len(values) == 1 else "\n".join(str(value) for value in values)

    def from_text(self, text: str) -> Example:
        """A row to predict (without id) from one line of plain text.

        Raises:
            UserError: one text is not enough for this task.
        """
        needed = [name for name, c in self.columns.items() if c.required and not c.is_target]
        fix = f"give JSON lines with {' and '.join(needed)}"
        raise UserError("--input", "a line of plain text is not enough for this task", accepted=fix)

    def examples(self, rows: Sequence[Example]) -> Sequence[Example]:
        """Checked rows to examples: the same, unless files are to be read or one row is no whole example.

        Raises:
            UserError: they cannot be joined; `where` begins with the row.
        """
        return rows

    def inputs(self, rows: Sequence[Example]) -> Sequence[Example]:
        """The same for rows that come without what is to be said (`attnlab predict`)."""
        return self.examples(rows)

    def fit(self, splits: Mapping[str, Sequence[Example]]) -> None:  # noqa: B027 - optional hook
        """Learn from the rows what the model's head must know, such as the label inventory."""

    def state(self) -> dict[str, Any]:
        """What `fit` and `tune` learned, JSON-able; `restore` takes it back in a finished run."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - optional hook
        """Take back what `state` gave."""

    def model_options(self) -> dict[str, Any]:
        """Config entries the model class needs from the task, such as `id2label`."""
        return {}

    def texts(self, examples: Iterable[Example]) -> Iterator[str]:
        """The text a tokenizer is trained on when the model starts from scratch."""
        raise TypeError(f"{type(self).__name__} has no text to train a tokenizer on")

    # ---- features and batches
    def bind(self, processor: Any, family: str) -> None:
        """Meet the tokenizer (or image processor ...) and the model family before any feature is made."""
        self.processor, self.family = processor, family

    @abstractmethod
    def prepare(self, examples: Sequence[Example]) -> list[Feature]:
        """Rows to features, in row order; an example may give several (windows), never none."""

    def feature_len(self, feature: Feature) -> int:
        """Tokens this feature costs in a batch: what batches are cut and sorted by."""
        return len(feature["input_ids"])

    @abstractmethod
    def collate(self, features: Sequence[Feature]) -> dict[str, Any]:
        """Pad features to one batch of tensors."""

    # ---- learning and predicting
    @abstractmethod
    def loss(self, model: Any, batch: dict[str, Any]) -> Any:
        """Sum, in float32, of the losses of all targets in the batch: a scalar tensor, never a mean."""

    @abstractmethod
    def predict(self, model: Any, batch: dict[str, Any]) -> list[Raw]:
        """One raw result per feature of the batch, on the CPU (generation happens here).

        A raw is a mapping; its entry "loss", where there is one, is the sum of the feature's target
        losses (float), from the same forward: evaluation adds them up to the split's loss.
        """

    @abstractmethod
    def assemble(self, example: Example, raws: Sequence[Raw]) -> Prediction:
        """All raws of one example, in feature order, to its one prediction."""

    def answer(self, example: Example, raws: Sequence[Raw]) -> dict[str, Any]:
        """The prediction with what a reader wants beside it (scores, places, runners-up), JSON-able."""
        return {"prediction": self.assemble(example, raws)}

    def tune(self, examples: Sequence[Example], raws: Sequence[Sequence[Raw]]) -> None:  # noqa: B027
        """Choose from the validation split what no gradient learns, such as a threshold.

        Called with all raws of each example before validation is assembled and scored, and with no other
        split, so that test scores never profit from it (validation scores do). What is chosen belongs to
        the weights it was chosen with: `state` must hold it, and the run restores that of its best step.
        """

    def show(self, feature: Feature) -> str:
        """What the model sees of a feature, and what it is to say, as `attnlab inspect` prints it."""
        return self.processor.decode(feature["input_ids"])

    # ---- scoring
    @property
    @abstractmethod
    def metrics(self) -> Mapping[str, Metric]:
        """The metrics of this task by name; `primary` is one of them."""

    def trivial(self, train: Sequence[Example]) -> Mapping[str, Trivial]:
        """What could be said without a model, by how it is found: a score below these shows nothing learned.

        Called after `bind`; each function takes an example and gives a prediction, as `assemble` does.
        """
        return {}

    @abstractmethod
    def reference(self, example: Example) -> Any:
        """What the metrics compare a prediction with."""
