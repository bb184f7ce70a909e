"""A finished run of attnlab as a side: its stored predictions and statistics, without its model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.comparison.scored_run import ScoredRun, hashed, manifest_of, read
from pipelines.config.load import RunConfig, run_from_dict
from pipelines.errors import UserError
from pipelines.hub.address import is_address
from pipelines.runs.locate import find_record
from pipelines.storage import reading, run_files
from pipelines.storage.names import MANIFEST, PREDICTIONS, RUNS, TOGETHER
from pipelines.storage.records import PredictionEntry
from pipelines.tasks.base import Task
from pipelines.tasks.load import load_task


@dataclass(frozen=True)
class RunSide:
    """A run on one split."""

    run: ScoredRun
    predictions: Sequence[Any] | None  # None: a pushed record has none
    references: Sequence[Any] | None

    @property
    def config(self) -> RunConfig:
        return run_from_dict(self.run.manifest["config"])

    @property
    def ids(self) -> tuple[str, ...] | None:
        """The ids of its examples; None where they are the numbers of its rows."""
        numbers = tuple(str(number) for number in range(1, len(self.run.ids) + 1))
        if self.run.ids in (numbers, tuple(map(hashed, numbers))):
            return None
        return self.run.ids

    def task(self) -> Task:
        """Return its task, with what it learned from its train split."""
        task = load_task(self.config)
        task.restore(self.run.manifest["task_state"])
        return task


def folder_of(text: str) -> Path | None:
    """Return the folder of a run, local or downloaded; None: it is a file of another program.

    Raises:
        UserError: it is the folder of an ablation, or its address has no run.
    """
    if not is_address(text) and not Path(text).is_dir():
        return None
    folder = find_record(text)
    if reading.is_there(folder / RUNS) or reading.is_there(folder / TOGETHER):
        raise UserError(
            text, "is an ablation, which compares its own arms", accepted=f"attnlab report {text}"
        )
    return folder if reading.is_there(folder / MANIFEST) else None


def read_run(folder: Path, text: str, split: str) -> RunSide:
    """Return a run as it was scored on one of its splits.

    Raises:
        UserError: it was not scored on it, or a file of it is missing or has changed.
    """
    manifest = manifest_of(folder)
    run_files.require(folder, manifest, run_files.is_result)
    run = read(folder, text, split)
    path = folder / PREDICTIONS.format(split)
    if not reading.is_there(path):
        return RunSide(run, None, None)
    lines = reading.json_lines(path, run_files.train_again(folder), PredictionEntry)
    return RunSide(run, [line["prediction"] for line in lines], [line["reference"] for line in lines])
