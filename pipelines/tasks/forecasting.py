"""Forecasts of the next values of a time series (PatchTST)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch.nn import Module

from pipelines.errors import UserError
from pipelines.metrics.base import Metric
from pipelines.metrics.mse import MeanSquaredError
from pipelines.registry.option_types import Count, Items
from pipelines.shown import with_point
from pipelines.tasks.base import Baseline, Batch, Column, Example, Feature, Raw, Task

VALUES_PER_TOKEN = 16  # the usual patch of a channel, which max_tokens counts as a token
DIGITS = 4  # after the decimal point, of a value in standard deviations


Channels = Annotated[
    list[str],
    Items(
        without=("id", "cluster", "time"),
        called="distinct columns of the data, none of them called id, cluster or time",
    ),
]


class Forecasting(Task):
    """Forecast a series: `horizon` rows after `context_len` rows, all channels at once.

    A row is one point in time and a split is one series without gaps; where rows have a time it must advance
    by equal steps. An example is a window of the series; its id is that of its first row to forecast. Windows
    whose forecasts begin within the same `horizon` rows overlap, so they are one cluster of the statistics.

    The model reads and predicts values in the unit of the data; errors are measured in standard deviations of
    each channel in train, so that the mean squared error is the one of the literature.

    Args:
        channels: columns of the data to read and to forecast.
        context_len: rows that the model sees.
        horizon: rows to forecast.
        stride: rows from the beginning of one window to the next.
    """

    reads: ClassVar[str] = "series"
    head: ClassVar[str] = "forecasting"
    primary: ClassVar[str] = "mse"
    metric_names: ClassVar[tuple[str, ...]] = ("mse",)
    columns: Mapping[str, Column] = {
        "time": Column("date", "when the row was measured, as ISO 8601", required=False),
    }

    def __init__(
        self, channels: Channels, context_len: Count = 96, horizon: Count = 24, stride: Count = 1
    ) -> None:
        self.channels = list(channels)
        self.context_len, self.horizon, self.stride = context_len, horizon, stride
        self.columns = {**type(self).columns, **{name: Column(name, "a channel") for name in channels}}
        self._scaling: tuple[np.ndarray, np.ndarray] | None = None  # mean and deviation in train, (channels,)

    # ---- rows
    def check(self, example: Example) -> str | None:
        for name in self.channels:
            if not math.isfinite(_number(example[name])):
                return f"has {example[name]!r} as {name!r}, which is not a number{with_point(example[name])}"
        when = example.get("time")
        if when is not None and _time(when) is None:
            return f"has the time {when!r}, which is not ISO 8601 (2016-07-01 00:00:00)"
        return None

    def fit(self, splits: Mapping[str, Sequence[Example]]) -> None:
        series = self._series(splits["train"])
        mean, deviation = series.mean(axis=0), series.std(axis=0)
        self._scaling = mean, deviation
        flat = [name for name, spread in zip(self.channels, deviation) if spread == 0]
        if flat:
            what = "never change in train, so there is nothing to forecast and no unit for an error"
            raise UserError("task.channels", what, flat, "leave them out")

    def state(self) -> dict[str, Any]:
        mean, deviation = self._require_scaling()
        return {"mean": mean.tolist(), "deviation": deviation.tolist()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._scaling = np.array(state["mean"]), np.array(state["deviation"])

    def _series(self, rows: Sequence[Example]) -> np.ndarray:
        """Return the values of the channels, (rows, channels), float64."""
        return np.array([[_number(row[name]) for name in self.channels] for row in rows])

    def examples(self, rows: Sequence[Example]) -> Sequence[Example]:
        """Return every `stride`-th window: `past` (context_len, channels), `future` (horizon, channels)."""
        _require_equal_steps(rows)
        series, whole = self._series(rows), self.context_len + self.horizon
        _require_rows(rows, whole)
        return [
            {
                "id": rows[begin + self.context_len]["id"],
                "cluster": str(begin // self.horizon),
                "past": series[begin : begin + self.context_len],
                "future": series[begin + self.context_len : begin + whole],
            }
            for begin in range(0, len(rows) - whole + 1, self.stride)
        ]

    def inputs(self, rows: Sequence[Example]) -> Sequence[Example]:
        """Return one window, the last rows: what follows them is forecast."""
        _require_equal_steps(rows)
        _require_rows(rows, self.context_len)
        return [{"id": rows[-1]["id"], "past": self._series(rows[-self.context_len :])}]

    def shown(self, example: Example) -> list[list[float]]:
        return [[float(f"{value:.4g}") for value in row] for row in example["past"][-self.horizon :]]

    def model_options(self) -> dict[str, Any]:
        lengths = {"context_length": self.context_len, "prediction_length": self.horizon}
        return {**lengths, "num_input_channels": len(self.channels)}

    # ---- features and batches
    def prepare(self, examples: Sequence[Example]) -> list[Feature]:
        """Return one feature per example: its values as the bytes of float32, row by row."""
        return [
            {
                "example_id": example["id"],
                **{
                    name: np.asarray(example.get(name, ()), np.float32).tobytes()
                    for name in ("past", "future")
                },
                "num_targets": np.size(example.get("future", ())),
            }
            for example in examples
        ]

    def feature_len(self, feature: Feature) -> int:
        return max(1, self.context_len * len(self.channels) // VALUES_PER_TOKEN)

    def collate(self, features: Sequence[Feature]) -> Batch:
        """Return past_values (batch, context_len, channels), and future_values (batch, horizon, channels)."""
        batch = {"past_values": self._values(features, "past")}
        if features[0]["future"]:
            batch["future_values"] = self._values(features, "future")
        return batch

    def _values(self, features: Sequence[Feature], name: str) -> torch.Tensor:
        joined = np.frombuffer(b"".join(feature[name] for feature in features), np.float32)
        return torch.from_numpy(joined.reshape(len(features), -1, len(self.channels)).copy())

    def show(self, feature: Feature) -> str:
        past, future = (self._values([feature], name)[0] for name in ("past", "future"))
        lines = (
            f"{name}: ... {_row(past[-4:, n])} -> {_row(future[:4, n])} ..."
            for n, name in enumerate(self.channels)
        )
        return "\n".join(lines)

    # ---- learning and predicting
    def loss(self, model: Module, batch: Batch) -> torch.Tensor:
        return self._squared_errors(self._forecast(model, batch), batch["future_values"]).sum()

    def predict(self, model: Module, batch: Batch) -> list[Raw]:
        forecast = self._forecast(model, batch)
        raws: list[Raw] = [{"forecast": rows} for rows in forecast.tolist()]
        if "future_values" in batch:
            losses = self._squared_errors(forecast, batch["future_values"]).sum(dim=(1, 2)).tolist()
            raws = [{**raw, "loss": loss} for raw, loss in zip(raws, losses)]
        return raws

    @staticmethod
    def _forecast(model: Module, batch: Batch) -> torch.Tensor:
        """Return the forecast (batch, horizon, channels), float32, in the unit of the data."""
        return model(past_values=batch["past_values"]).prediction_outputs.float()

    def _squared_errors(self, forecast: torch.Tensor, future: torch.Tensor) -> torch.Tensor:
        _, deviation = self._require_scaling()
        return ((forecast - future) / torch.tensor(deviation, dtype=torch.float32).to(future)).square()

    def assemble(self, example: Example, raws: Sequence[Raw]) -> list[list[float]]:
        """Return the forecast in standard deviations of each channel from its mean in train."""
        [raw] = raws
        return self._standardised(np.array(raw["forecast"]))

    def answer(self, example: Example, raws: Sequence[Raw]) -> dict[str, Any]:
        """Return the next values of each channel, in the unit of the data."""
        [raw] = raws
        return {
            "forecast": {name: list(column) for name, column in zip(self.channels, zip(*raw["forecast"]))}
        }

    def _standardised(self, values: np.ndarray) -> list[list[float]]:
        """Return values in standard deviations from the mean of train, rounded: stored files stay small."""
        mean, deviation = self._require_scaling()
        return np.round((values - mean) / deviation, DIGITS).tolist()

    def _require_scaling(self) -> tuple[np.ndarray, np.ndarray]:
        if self._scaling is None:
            what = "errors are measured by the spread of the train rows, and there are none"
            raise UserError("task", what, accepted="train a run, and score that")
        return self._scaling

    # ---- scoring
    def metric(self, name: str) -> Metric:
        return MeanSquaredError()

    def baselines(self, train: Sequence[Example]) -> Mapping[str, Baseline]:
        return {
            "last value": lambda example: [self._standardised(example["past"][-1])] * self.horizon,
            "mean of train": lambda example: [[0.0] * len(self.channels)] * self.horizon,
        }

    def reference(self, example: Example) -> list[list[float]]:
        return self._standardised(example["future"])


def _number(value: Any) -> float:
    """Return the number in a cell, a text or a number; NaN for anything else."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return math.nan


def _time(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None


def _require_rows(rows: Sequence[Example], least: int) -> None:
    if len(rows) < least:
        what = f"the series ends after {len(rows):,} rows, and a window has {least:,}"
        raise UserError(f"row {rows[-1]['id']}", what, accepted="a longer series, or shorter windows")


def _require_equal_steps(rows: Sequence[Example]) -> None:
    """Refuse a series with a gap: a window across it would not be `horizon` steps long."""
    times = [time for row in rows if (time := _time(row.get("time"))) is not None]
    if len(times) < len(rows):
        return  # a row without a time
    steps = [after - before for before, after in pairwise(times)]
    for row, step in zip(rows[1:], steps):
        if step != steps[0] or step.total_seconds() <= 0:
            what = f"the time advances by {step} here and by {steps[0]} before"
            what = what if step.total_seconds() > 0 else "the time is not after that of the row before"
            raise UserError(f"row {row['id']}", what, accepted="give a series without gaps, sorted by time")


def _row(values: torch.Tensor) -> str:
    return " ".join(f"{value:.4g}" for value in values.tolist())
