"""Send metrics to TensorBoard, trackio, W&B or MLflow through accelerate, besides `metrics.jsonl`."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import UserError
from pipelines.storage.names import TRACKERS

if TYPE_CHECKING:
    from accelerate import Accelerator

    from pipelines.config.load import RunConfig

PACKAGES = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
}
PROJECT = "attnlab"


def require(trackers: Sequence[str]) -> None:
    """Refuse a tracker whose package is missing; accelerate would leave it out without an error.

    Raises:
        UserError: naming the package.
    """
    for name in trackers:
        if not any(importlib.util.find_spec(package) for package in PACKAGES[name]):
            raise UserError(
                "trackers", f"{name} is not installed", accepted=f"pip install {PACKAGES[name][0]}"
            )


@contextmanager
def tracking(accelerator: Accelerator, config: RunConfig, folder: Path) -> Iterator[None]:
    """Open the trackers of the configuration for a block; their files are in `folder`/trackers."""
    from accelerate.tracking import filter_trackers

    if not config.trackers:
        yield
        return
    place = folder / TRACKERS
    accelerator.log_with = filter_trackers(list(config.trackers), str(place))
    if len(accelerator.log_with) < len(config.trackers):
        raise UserError("trackers", "accelerate cannot use one of these as installed", list(config.trackers))
    accelerator.project_configuration.logging_dir = str(place)
    settings = dict(_flat(config.to_dict()))
    names = {"wandb": {"name": folder.name}, "trackio": {"name": folder.name}}
    names["mlflow"] = {"run_name": folder.name}
    with _mlflow_store(place):
        accelerator.init_trackers(PROJECT, config=settings, init_kwargs=names)
        try:
            yield
        finally:
            for tracker in accelerator.trackers:
                tracker.finish()
            accelerator.trackers = []


@contextmanager
def _mlflow_store(place: Path) -> Iterator[None]:
    """Make MLflow write files into `place`, unless MLFLOW_TRACKING_URI names a server or another store."""
    ours = {"MLFLOW_TRACKING_URI": place.resolve().as_uri(), "MLFLOW_ALLOW_FILE_STORE": "true"}
    if "MLFLOW_TRACKING_URI" in os.environ:
        ours = {}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ |= {} if value is None else {name: value}


def track(accelerator: Accelerator, event: Mapping[str, object]) -> None:
    """Send the numbers of one event of `metrics.jsonl`, named after its split or its kind."""
    head = event.get("split") or event["event"]
    numbers = {
        f"{head}/{name}": value
        for name, value in event.items()
        if isinstance(value, int | float) and name != "step"
    }
    if accelerator.trackers:
        accelerator.log(numbers, step=event["step"])


def _flat(value: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, int | float | str]]:
    """Return settings under dotted names; lists and null become text, which every tracker takes."""
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from _flat(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", inner if isinstance(inner, int | float | str) else str(inner)
