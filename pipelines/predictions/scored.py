"""Score what files hold: predictions by the metrics of a task, or numbers that are given."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipelines.data.tag_schemes import scheme_of
from pipelines.errors import UserError
from pipelines.metrics.base import Metric, StatisticsTable
from pipelines.metrics.mean_score import MeanScore
from pipelines.predictions.examples import Examples
from pipelines.predictions.outputs import Outputs
from pipelines.tasks.base import Task

SCORES_FIX = "repair it, or leave the example out of every file"


@dataclass(frozen=True)
class ScoredFile:
    """A scored file, in the order of the examples: what `RunFolder.write_evaluation` writes."""

    ids: Sequence[str]
    clusters: Sequence[str]
    predictions: Sequence[Any]
    references: Sequence[Any]
    metrics: Mapping[str, Metric]
    statistics: Mapping[str, StatisticsTable]


def of_predictions(
    found: Outputs, examples: Examples, task: Task, metrics: Mapping[str, Metric]
) -> ScoredFile:
    """Score the predictions of a file.

    Raises:
        UserError: it has none, or one is no prediction of this task.
    """
    if found.predictions is None:
        fix = "give a file with predictions, or compare its scores with --score NAME"
        raise UserError(found.where, f"has nothing to score: {found.no_predictions}", accepted=fix)
    assert examples.references is not None  # the caller has looked for them
    if found.may_end_empty and found.count == examples.count - 1:
        found = replace(found, count=examples.count, predictions=[*found.predictions, ""])
    places = examples.places(found)
    read = _read(found, places, task)
    if any(column.is_iob for column in task.columns.values()):
        read_tags = examples.read_tags or scheme_of(read).read
        read = [read_tags(tags) for tags in read]
        for place, prediction, reference in zip(places, read, examples.references):
            _require_length(found, place, prediction, reference)
    statistics = {name: _table(metric, read, examples, found) for name, metric in metrics.items()}
    return _scored(examples, read, examples.references, metrics, statistics)


def _read(found: Outputs, places: Sequence[int], task: Task) -> list[Any]:
    assert found.predictions is not None  # the caller has looked
    read = []
    for place in places:
        try:
            read.append(task.read_prediction(found.predictions[place]))
        except LookupError as error:
            raise UserError(found.place(place), f"the prediction {error.args[0]}") from error
    return read


def _require_length(found: Outputs, place: int, prediction: Sequence[str], reference: Sequence[str]) -> None:
    if len(prediction) != len(reference):
        what = f"has {len(prediction)} tags, and its sentence {len(reference)} words"
        fix = "predict again with room for it (max_seq_length of run_ner), or leave it out of every file"
        raise UserError(found.place(place), what, accepted=fix)


def _table(metric: Metric, read: Sequence[Any], examples: Examples, found: Outputs) -> StatisticsTable:
    try:
        return metric.table(read, examples.references or ())
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        what = f"holds what {metric.name} cannot score ({error})"
        raise UserError(found.where, what, accepted="give predictions of this task") from error


def of_scores(found: Outputs, examples: Examples, metrics: Mapping[str, MeanScore]) -> ScoredFile:
    """Return the scores that a file gives to each example.

    Raises:
        UserError: it has no such score, or an example has no number.
    """
    places = examples.places(found)
    values = {name: _numbers(found, name, places) for name in metrics}
    statistics = {name: metric.table(values[name], values[name]) for name, metric in metrics.items()}
    columns = list(values.values())
    predictions = columns[0] if len(columns) == 1 else [dict(zip(values, row)) for row in zip(*columns)]
    return _scored(examples, predictions, [None] * len(places), metrics, statistics)


def _numbers(found: Outputs, name: str, places: Sequence[int]) -> list[float]:
    column = found.score(name)
    numbers = []
    for place in places:
        value = column[place]
        number = _number(value)
        if number is None:
            what = f"the score {name} is {'missing' if value is None else 'no finite number'}"
            came = None if value is None else value if isinstance(value, str) else repr(value)
            raise UserError(found.place(place), what, came, SCORES_FIX)
        numbers.append(number)
    return numbers


def _number(value: Any) -> float | None:
    """Return a finite number; None for anything else. True and false count 1 and 0, as text too."""
    if isinstance(value, str):
        value = {"true": 1, "false": 0}.get(value.strip().lower(), value)
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _scored(
    examples: Examples,
    predictions: Sequence[Any],
    references: Sequence[Any],
    metrics: Mapping[str, Metric],
    statistics: Mapping[str, StatisticsTable],
) -> ScoredFile:
    names = examples.names
    return ScoredFile(names, examples.clusters or names, predictions, references, metrics, statistics)
