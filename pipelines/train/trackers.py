"""Metrics to TensorBoard, trackio or W&B as well, through accelerate; `metrics.jsonl` stays the truth."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import UserError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from pipelines.config.load import RunConfig

PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX"), "trackio": ("trackio",), "wandb": ("wandb",)}
PROJECT = "attnlab"


def require(trackers: Sequence[str]) -> None:
    """Refuse a tracker whose package is missing: accelerate would only leave it out.

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
    """Trackers that the configuration asks for, open for a block; their files lie in `folder`/trackers."""
    from accelerate.tracking import filter_trackers

    if not config.trackers:
        yield
        return
    place = folder / "trackers"
    accelerator.log_with = filter_trackers(list(config.trackers), str(place))
    if len(accelerator.log_with) < len(config.trackers):
        raise UserError("trackers", "accelerate cannot use one of these as installed", list(config.trackers))
    accelerator.project_configuration.logging_dir = str(place)
    settings = {name: value for name, value in _flat(config.to_dict()) if value is not None}
    names = {"wandb": {"name": folder.name}, "trackio": {"name": folder.name}}
    accelerator.init_trackers(PROJECT, config=settings, init_kwargs=names)
    try:
        yield
    finally:
        for tracker in accelerator.trackers:
            tracker.finish()
        accelerator.trackers = []


def track(accelerator: Accelerator, event: Mapping[str, Any]) -> None:
    """Pass the numbers of one event of `metrics.jsonl` on, under its kind or its split."""
    head = event.get("split") or event["event"]
    numbers = {
        f"{head}/{name}": value
        for name, value in event.items()
        if isinstance(value, int | float) and name != "step"
    }
    if accelerator.trackers:
        accelerator.log(numbers, step=event["step"])


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings under dotted names, as text where a tracker takes neither lists nor mappings."""
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from _flat(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", inner if isinstance(inner, int | float | str) else str(inner)
