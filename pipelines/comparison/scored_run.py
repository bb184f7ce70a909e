"""A finished run read for comparison: its manifest and its statistics per example."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csc_array, csr_array

from pipelines.comparison.significance import Deletions, delete_one
from pipelines.errors import UserError
from pipelines.metrics import base as metrics
from pipelines.metrics import load
from pipelines.metrics.base import Metric, StatisticsTable
from pipelines.storage.names import MANIFEST, PREDICTIONS, STATISTICS

Manifest = Mapping[str, Any]  # the content of manifest.json

HASHES = "predictions.{}.hashes"
SPLITS = ("test", "validation")  # the first that every run of a cell has been scored on


@dataclass(frozen=True)
class ScoredRun:
    """A run's manifest, and its per-example statistics on one split, rows in example order."""

    folder: Path
    label: str  # "gate, seed 2 of ner-minilm"
    split: str
    manifest: Manifest
    ids: tuple[str, ...]
    clusters: tuple[str, ...]
    statistics: Mapping[str, StatisticsTable]  # by metric

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """The metrics that the run was scored with, by name."""
        return {
            name: load.load(entry["module"], entry["options"])
            for name, entry in self.manifest["metrics"].items()
        }

    @cached_property
    def _scores(self) -> dict[str, float]:
        return {}

    def score(self, name: str) -> float:
        """Return the score of the split by one metric."""
        if name not in self._scores:
            self._scores[name] = float(self.metrics[name].score(metrics.total(self.statistics[name])))
        return self._scores[name]

    @cached_property
    def _deletions(self) -> dict[str, Deletions]:
        return {}

    def deletions(self, name: str) -> Deletions:
        """Return the compared value of one metric, whole and without each cluster of examples."""
        if name not in self._deletions:
            value = metrics.comparable(self.metrics[name])
            self._deletions[name] = delete_one(self.statistics[name], value, self.clusters)
        return self._deletions[name]

    @cached_property
    def prediction_hashes(self) -> tuple[bytes, ...]:
        """One hash per example, equal where the line of predictions (id, prediction, reference) is equal."""
        path, hashes = (self.folder / name.format(self.split) for name in (PREDICTIONS, HASHES))
        if hashes.exists():  # a published record holds no text of the data
            return tuple(map(bytes.fromhex, hashes.read_text(encoding="ascii").split()))
        return hashed_lines(path) if path.exists() else ()


def hashed_lines(predictions: Path) -> tuple[bytes, ...]:
    """Return one hash for each line of a file of predictions."""
    lines = predictions.read_bytes().splitlines()
    return tuple(hashlib.blake2b(line, digest_size=8).digest() for line in lines)


def common_split(folders: Sequence[Path]) -> str:
    """Return the split to compare on: test where all runs have it, else validation.

    Raises:
        UserError: all of them were scored on neither.
    """
    for split in SPLITS:
        if all((folder / STATISTICS.format(split)).exists() for folder in folders):
            return split
    raise UserError(
        str(folders[0].parent),
        f"no split was scored by all of {', '.join(folder.name for folder in folders)}",
        accepted="run them again with --fresh",
    )


def read(folder: Path, label: str, split: str) -> ScoredRun:
    """Read a finished run.

    Raises:
        UserError: the statistics are damaged or lack a column, or give another score than the manifest.
    """
    import pyarrow
    import pyarrow.parquet

    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    path = folder / STATISTICS.format(split)
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        what = f"is damaged ({str(error).splitlines()[0]})"
        raise UserError(str(path), what, accepted="run it again with --fresh") from error
    ids, clusters = (tuple(map(str, table[name].to_pylist())) for name in ("id", "cluster"))
    run = ScoredRun(folder, label, split, manifest, ids, clusters, {})
    try:
        run = replace(run, statistics={name: _table(table, run, name) for name in manifest["metrics"]})
    except LookupError as error:
        raise UserError(str(path), error.args[0], accepted="run it with --fresh") from error
    for name, stored in manifest.get("scores", {}).get(split, {}).items():
        found = run.score(name)
        if not math.isclose(found, stored, rel_tol=1e-9, abs_tol=1e-9):
            what = f"{split} {name} is {stored!r} in manifest.json and {found!r} by the statistics"
            raise UserError(str(folder), what, accepted="run it again with --fresh")
    return run


def _table(stored: Any, run: ScoredRun, name: str) -> StatisticsTable:
    """Return the statistics of one metric of a run from a table of pyarrow.

    Raises:
        LookupError: a column is missing; the message is a clause.
    """
    is_sparse, names = run.metrics[name].is_sparse, run.manifest["metrics"][name]["columns"]
    places = {column: place for place, column in enumerate(stored.column_names)}

    def column(statistic: str) -> Any:
        if f"{name}.{statistic}" not in places:
            raise LookupError(f"the column {name}.{statistic} is missing")
        return stored.column(places[f"{name}.{statistic}"])

    if is_sparse and f"{name}.places" in places:
        indices, data = (column(part).combine_chunks() for part in ("places", "values"))
        parts = (data.flatten(), indices.flatten(), indices.offsets)
        shape = (stored.num_rows, len(names))
        return csr_array(tuple(part.to_numpy() for part in parts), shape=shape)
    columns = [column(statistic).to_numpy() for statistic in names]
    if not is_sparse:
        return np.stack(columns, axis=1)
    return sparse_columns(columns)  # a run of 0.1


def sparse_columns(columns: Sequence[np.ndarray]) -> csr_array:
    """Return dense columns as one sparse table."""
    places = [np.flatnonzero(column) for column in columns]
    values = [column[there] for column, there in zip(columns, places)]
    ends = np.cumsum([0, *map(len, places)])
    shape = (len(columns[0]), len(columns))
    return csc_array((np.concatenate(values), np.concatenate(places), ends), shape=shape).tocsr()
