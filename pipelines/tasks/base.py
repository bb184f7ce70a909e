"""The contract of a task: what a file under `tasks/` must define, without training and without attention."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pipelines.errors import UserError
from pipelines.metrics.base import Metric
from pipelines.shown import printable

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Example = Mapping[str, Any]  # one row under its canonical column names, plus "id"
Feature = dict[str, Any]  # one model input: lists, numbers, bytes; plus "example_id" and "num_targets"
Batch = dict[str, Any]  # padded features: tensors by the model's names, and what a task keeps beside them
Raw = Mapping[str, Any]  # the model's result for one feature
Prediction = Any  # JSON-able; one per example
Baseline = Callable[[Example], Prediction]  # a prediction without a model
Processor = Any  # a tokenizer, image processor or feature extractor of transformers


@dataclass(frozen=True)
class Column:
    """One canonical column: its default name in the data, its meaning, and whether every row needs it."""

    default: str
    meaning: str
    required: bool = True
    is_target: bool = False  # needed to train and to score, but not for `attnlab predict`
    may_be_null: bool = False  # null is a value, such as "no answer"
    is_iob: bool = False  # one tag per word, in any scheme of the data; the task sees IOB2


class Task(ABC):
    """What a model is trained to do, from rows to scores.

    The order of calls in a run: `__init__(**options)`, `fit(train rows)`, `bind(processor, family)`, then
    `prepare`, `collate`, `loss` in training and `predict`, `assemble` in evaluation.
    A task sees plain transformers models. It imports neither accelerate nor custom_attention.
    """

    reads: ClassVar[str] = "text"  # row of the table in `models/processor.py`: text, image, audio or series
    head: ClassVar[str]  # row of the model table in `models/build.py`, such as "token_classification"
    # The catalog reads these two from source (`attnlab validate` imports no task), so they must be literals.
    metric_names: ClassVar[tuple[str, ...]]  # the metrics that are always reported
    optional_metrics: ClassVar[Mapping[str, tuple[str, ...]]] = {}  # an option -> the metrics it adds if true
    metrics_by: ClassVar[Mapping[str, Mapping[str, tuple[str, ...]]]] = {}  # option -> value -> all metrics
    # Settings of the run that change the loss in training, of label_smoothing and class_weights: those that
    # this task honours, and option -> value -> all that it honours then. Literals too.
    loss_settings: ClassVar[tuple[str, ...]] = ()
    loss_settings_by: ClassVar[Mapping[str, Mapping[str, tuple[str, ...]]]] = {}
    primary: ClassVar[str]  # the one of them that selects checkpoints (see `selects_by`)
    columns: Mapping[str, Column]  # canonical name -> column
    evaluation_overhead: ClassVar[int] = 300  # cost of one more batch besides its tokens, in tokens

    processor: Processor = None
    family: str = ""
    label_smoothing: float = 0.0  # of the run; for `loss`, where `loss_settings` has it

    # ---- rows
    def check(self, example: Example) -> str | None:
        """Return why this row cannot be used, as a clause ("has 12 tokens and 11 labels"); None if it can.

        Columns with `is_target` are absent when a row is only to be predicted.
        """
        return None

    def spelled(self, example: Example) -> Example:
        """Return a row of the data in the one spelling that `check` and the other methods know."""
        return example

    def cluster(self, example: Example) -> str:
        """Return the cluster of a row.

        Rows with a common source (questions about one text) share a cluster: their errors are correlated, so
        the statistics count clusters, not rows.
        """
        return str(example.get("cluster", example["id"]))

    def stratum(self, example: Example) -> frozenset[str] | None:
        """Return the labels by which random splits are stratified and splits are compared; None: it has none.

        They are the label of the example, its labels, or the types of what is labelled in it.
        """
        return None

    def shown(self, example: Example) -> object:
        """Return the inputs of an example for the reader of a report: the only one, or all as text."""
        needed = [name for name, c in self.columns.items() if c.required and not c.is_target]
        values = [example[name] for name in needed]
        return values[0] if len(values) == 1 else "\n".join(str(value) for value in values)

    def from_text(self, text: str) -> Example:
        """Return a row to predict (without id) from one line of plain text.

        Raises:
            UserError: one text is not enough for this task.
        """
        needed = [name for name, c in self.columns.items() if c.required and not c.is_target]
        fix = f"give JSON lines with {' and '.join(needed)}"
        raise UserError("--input", "a line of plain text is not enough for this task", accepted=fix)

    def examples(self, rows: Sequence[Example]) -> Sequence[Example]:
        """Turn checked rows into examples: the same, unless files must be read or an example has many rows.

        Raises:
            UserError: they cannot be joined; `where` begins with the row.
        """
        return rows

    def inputs(self, rows: Sequence[Example]) -> Sequence[Example]:
        """Turn rows without targets into examples (`attnlab predict`)."""
        return self.examples(rows)

    def fit(self, splits: Mapping[str, Sequence[Example]]) -> None:  # noqa: B027 - optional hook
        """Learn from the train rows what the model's head needs, such as the labels."""

    def state(self) -> dict[str, Any]:
        """Return what `fit` and `tune` learned, JSON-able; a finished run passes it to `restore`."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - optional hook
        """Set what `fit` and `tune` learned from what `state` returned."""

    def model_options(self) -> dict[str, Any]:
        """Return the config entries that the model class needs from the task, such as `id2label`."""
        return {}

    def texts(self, examples: Iterable[Example]) -> Iterator[str]:
        """Return the text that a tokenizer is trained on when the model starts from scratch."""
        raise TypeError(f"{type(self).__name__} has no text to train a tokenizer on")

    # ---- features and batches
    def bind(self, processor: Processor, family: str) -> None:
        """Set the processor and the model family, before any feature is prepared.

        Raises:
            UserError: the options of the task do not fit them.
        """
        self.processor, self.family = processor, family

    @abstractmethod
    def prepare(self, examples: Sequence[Example]) -> list[Feature]:
        """Turn rows into features, in row order; an example may give several (windows), never none."""

    def feature_len(self, feature: Feature) -> int:
        """Return the cost of a feature in tokens, by which batches are filled and sorted."""
        return len(feature["input_ids"])

    @abstractmethod
    def collate(self, features: Sequence[Feature]) -> Batch:
        """Pad features to one batch of tensors."""

    # ---- learning and predicting
    @abstractmethod
    def loss(self, model: Module, batch: Batch) -> Tensor:
        """Return the sum, in float32, of the losses of all targets in the batch: a scalar, never a mean."""

    @abstractmethod
    def predict(self, model: Module, batch: Batch) -> list[Raw]:
        """Return one raw result per feature of the batch, on the CPU (generation happens here).

        A raw is a mapping; its entry "loss", where there is one, is the sum of the feature's target
        losses (float), from the same forward pass: evaluation adds them up to the split's loss.
        """

    @abstractmethod
    def assemble(self, example: Example, raws: Sequence[Raw]) -> Prediction:
        """Combine all raws of one example, in feature order, into its one prediction."""

    def answer(self, example: Example, raws: Sequence[Raw]) -> dict[str, Any]:
        """Return the prediction with scores, positions and alternatives, JSON-able (`attnlab predict`)."""
        return {"prediction": self.assemble(example, raws)}

    def tune(self, examples: Sequence[Example], raws: Sequence[Sequence[Raw]]) -> None:  # noqa: B027
        """Choose on the validation split what no gradient learns, such as a threshold.

        Called with all raws of each example before validation is assembled and scored, and with no other
        split, so that test scores never profit from it (validation scores do). The choice belongs to the
        weights it was made with: `state` must hold it, and the run restores that of its best step.
        """

    def show(self, feature: Feature) -> str:
        """Return a feature's input and target as text, as `attnlab inspect` prints them."""
        return self.decoded(feature["input_ids"])

    def decoded(self, ids: Sequence[int]) -> str:
        """Return the text of tokens for a reader, on one line."""
        return printable(self.processor.decode(ids), keep="")

    # ---- scoring
    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Return the metrics that this task with its options reports, by name."""
        optional = (names for option, names in self.optional_metrics.items() if getattr(self, option))
        return {name: self.metric(name) for names in (self._main_metrics, *optional) for name in names}

    @property
    def _main_metrics(self) -> tuple[str, ...]:
        chosen = (names.get(getattr(self, option)) for option, names in self.metrics_by.items())
        return next((names for names in chosen if names), self.metric_names)

    @property
    def selects_by(self) -> str:
        """The metric that selects checkpoints unless the run names another."""
        return self.primary if self._main_metrics == self.metric_names else self._main_metrics[0]

    @abstractmethod
    def metric(self, name: str) -> Metric:
        """Return the metric of one of the names in `metric_names` and `optional_metrics`."""

    def read_prediction(self, written: Any) -> Prediction:
        """Return a prediction in the form of `assemble`, as another program wrote it (`attnlab compare`).

        Args:
            written: a line or a cell of text, or a JSON value; None: an empty cell, or null.

        Raises:
            LookupError: it is no prediction of this task; the message is a clause.
        """
        return written

    def baselines(self, train: Sequence[Example]) -> Mapping[str, Baseline]:
        """Return baseline predictions without a model, by name: a model that scores lower learned nothing.

        Called after `bind`; each function takes an example and returns a prediction, as `assemble` does.
        """
        return {}

    @abstractmethod
    def reference(self, example: Example) -> Any:
        """Return what the metrics compare a prediction with."""
