"""Score the stored predictions of a run again, and compare with the statistics that it has stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.comparison.scored_run import ScoredRun, read
from pipelines.errors import UserError
from pipelines.metrics.base import Metric
from pipelines.storage import reading, run_files
from pipelines.storage.names import MANIFEST, PREDICTIONS, STATISTICS
from pipelines.storage.records import PredictionEntry

TOLERANCE = 1e-9  # relative: libraries of another version round the last bits of a float64 differently
SHOWN = 3  # lines


def differences(folder: Path, manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (name of a file, what is wrong) for every split of a run whose files give other numbers.

    The statistics must give the scores of the manifest; the predictions and references, where they are
    stored, must give the statistics of every example. A pushed record has no predictions.
    """
    if manifest["status"] == "diverged" and "test" in manifest["scores"]:
        yield MANIFEST, "says that the run diverged, and scores it on test, which is done at the end only"
    for split in ("validation", "test"):
        name = STATISTICS.format(split)
        if name not in manifest["files"]:
            continue
        try:
            run = read(folder, folder.name, split)
            path = folder / PREDICTIONS.format(split)
            if path.name in manifest["files"]:
                yield from _of_predictions(run, path)
        except UserError as error:
            yield name, error.what


def _of_predictions(run: ScoredRun, path: Path) -> Iterator[tuple[str, str]]:
    lines = reading.json_lines(path, run_files.train_again(run.folder), PredictionEntry)
    if [str(line["id"]) for line in lines] != list(run.ids):
        yield path.name, f"has other examples than {STATISTICS.format(run.split)}"
        return
    predictions, references = ([line[side] for line in lines] for side in ("prediction", "reference"))
    of = STATISTICS.format(run.split)
    for name, metric in run.metrics.items():
        try:
            found = metric.table(predictions, references)
        except (TypeError, ValueError, KeyError, IndexError, AttributeError):
            yield path.name, f"holds what {name} cannot score, so it does not give {of}"
            continue
        rows = zip(found, run.statistics[name], strict=True)
        changed = [str(number) for number, row in enumerate(rows, start=1) if not _agrees(metric, *row)]
        if changed:
            shown = ", ".join(changed[:SHOWN]) + (", ..." if len(changed) > SHOWN else "")
            yield path.name, f"gives other statistics of {name} than {of}, line {shown}"


def _agrees(metric: Metric, found: Any, stored: Any) -> bool:
    """Tell whether two rows of statistics are equal; the rows of a sparse table are sparse."""
    if metric.is_sparse:
        found, stored = (row.toarray().reshape(-1) for row in (found, stored))
    return found.shape == stored.shape and np.allclose(
        found, stored, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True
    )
