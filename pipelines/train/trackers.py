"""Send metrics to TensorBoard, trackio or W&B through accelerate, besides `metrics.jsonl`."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import UserError
from pipelines.storage.names import TRACKERS

if TYPE_CHECKING:
    from accelerate import Accelerator

    from pipelines.config.load import RunConfig

PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX"), "trackio": ("trackio",), "wandb": ("wandb",)}
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
    accelerator.init_trackers(PROJECT, config=settings, init_kwargs=names)
    try:
        yield
    finally:
        for tracker in accelerator.trackers:
            tracker.finish()
        accelerator.trackers = []


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
