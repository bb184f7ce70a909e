"""Score the stored predictions of a run again, and compare with the statistics that it has stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import issparse

from pipelines.comparison.scored_run import ScoredRun, read
from pipelines.errors import UserError
from pipelines.metrics.base import Metric, StatisticsTable
from pipelines.storage import reading, run_files
from pipelines.storage.names import PREDICTIONS, STATISTICS
from pipelines.storage.records import PredictionEntry

TOLERANCE = 1e-9  # relative: libraries of another version round the last bits of a float64 differently
SHOWN = 3  # lines
UNREADABLE = (TypeError, ValueError, KeyError, IndexError, AttributeError)  # of a prediction of another form


def differences(folder: Path, manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (name of a file, what is wrong) for every split of a run whose files give other numbers.

    The statistics must give the scores of the manifest; the predictions and references, where they are
    stored, must give the statistics of every example. A pushed record has no predictions.
    """
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
    for name, metric in run.metrics.items():
        changed = [str(number) for number in _changed(metric, lines, run.statistics[name])]
        if changed:
            shown = ", ".join(changed[:SHOWN]) + (", ..." if len(changed) > SHOWN else "")
            of = STATISTICS.format(run.split)
            yield path.name, f"gives other statistics of {name} than {of}, line {shown}"


def _changed(metric: Metric, lines: Sequence[Mapping[str, Any]], stored: StatisticsTable) -> list[int]:
    """Return the numbers of the lines that give other statistics; a correlation needs all lines at once."""
    try:
        found = metric.table([line["prediction"] for line in lines], [line["reference"] for line in lines])
    except UNREADABLE:
        return [number for number, line in enumerate(lines, start=1) if not _is_scored(metric, line)]
    rows = zip(found, stored)
    return [number for number, row in enumerate(rows, start=1) if not _agrees(metric, *row)]


def _is_scored(metric: Metric, line: Mapping[str, Any]) -> bool:
    try:
        metric.statistics(line["prediction"], line["reference"])
    except UNREADABLE:
        return False
    return True


def _agrees(metric: Metric, *rows: Any) -> bool:
    # The table of a metric that counts each label apart is sparse.
    found, stored = (np.asarray(row.toarray() if issparse(row) else row, dtype=np.float64) for row in rows)
    return found.shape == stored.shape == (len(metric.columns),) and bool(
        np.allclose(found, stored, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
    )
