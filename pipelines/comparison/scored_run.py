"""A finished run read for comparison: its manifest and its statistics per example."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csc_array, csr_array

from pipelines.comparison.significance import Deletions, delete_one
from pipelines.errors import UserError
from pipelines.metrics import base as metrics
from pipelines.metrics import load
from pipelines.metrics.base import Metric, StatisticsTable
from pipelines.storage import reading, run_files
from pipelines.storage.names import MANIFEST, PREDICTIONS, STATISTICS
from pipelines.storage.records import ComparedEntries

if TYPE_CHECKING:
    import pyarrow

Manifest = Mapping[str, Any]  # the content of manifest.json

HASHES = "predictions.{}.hashes"
NAMES_ARE_HASHES = b"attnlab.names_are_hashes"  # in the metadata of a file of statistics
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
    names_are_hashes: bool = False  # as in a pushed record, because ids and clusters may be text of the data

    @cached_property
    def examples(self) -> tuple[tuple[str, str], ...]:
        """The id and the cluster of every example, in a form that a run and its pushed record share."""
        pairs = tuple(zip(self.ids, self.clusters, strict=True))
        return pairs if self.names_are_hashes else tuple((hashed(one), hashed(other)) for one, other in pairs)

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
        if reading.is_there(hashes):  # a published record holds no text of the data
            fix = run_files.train_again(self.folder)
            try:
                return tuple(map(bytes.fromhex, reading.text(hashes, fix).split()))
            except ValueError as error:
                raise UserError(str(hashes), "is damaged: it holds no hashes", accepted=fix) from error
        return hashed_lines(path) if reading.is_there(path) else ()


def hashed_lines(predictions: Path) -> tuple[bytes, ...]:
    """Return one hash for each line of a file of predictions."""
    lines = reading.content(predictions, run_files.train_again(predictions.parent)).splitlines()
    return tuple(hashlib.blake2b(line, digest_size=8).digest() for line in lines)


def common_split(folders: Sequence[Path]) -> str:
    """Return the split to compare on: test where all runs have it, else validation.

    What a run was scored on is in its manifest: a file of it that is missing is no reason for another split.

    Raises:
        UserError: all of them were scored on neither, or a manifest is missing or damaged.
    """
    listed = [manifest_of(folder).get("files") for folder in folders]
    for split in SPLITS:
        name = STATISTICS.format(split)
        # A record of which no file is listed is one that was made by hand.
        if all(
            name in files if files else (folder / name).exists() for folder, files in zip(folders, listed)
        ):
            return split
    raise UserError(
        str(folders[0].parent),
        f"no split was scored by all of {', '.join(folder.name for folder in folders)}",
        accepted="run them again with --fresh",
    )


def manifest_of(folder: Path) -> Manifest:
    """Return the manifest of a run that has ended.

    Raises:
        UserError: it is missing or damaged.
    """
    fix = run_files.train_again(folder)
    manifest: Manifest = reading.json_object(folder / MANIFEST, fix, ComparedEntries)
    return manifest


def read(folder: Path, label: str, split: str) -> ScoredRun:
    """Read a finished run.

    Raises:
        UserError: the statistics are missing, have changed or lack a column, or give another score than the
            manifest.
    """
    manifest = manifest_of(folder)
    path = folder / STATISTICS.format(split)
    fix = run_files.train_again(folder)
    run_files.require(folder, manifest, lambda name: name == path.name)
    table = _table(path)
    ids, clusters = (tuple(map(str, table[name].to_pylist())) for name in ("id", "cluster"))
    hashed = NAMES_ARE_HASHES in (table.schema.metadata or {})
    run = ScoredRun(folder, label, split, manifest, ids, clusters, {}, hashed)
    for name, metric in run.metrics.items():
        stored = manifest["metrics"][name].get("higher_is_better", metric.higher_is_better)
        if (metric.name, metric.higher_is_better) != (name, stored):
            what = f"describes another metric as {name}: {metric.name}, of which {_side(metric)} is better"
            raise UserError(str(folder / MANIFEST), what, accepted=fix)
        signature = manifest["metrics"][name].get("signature", metric.signature)
        if without_version(signature) != without_version(metric.signature):
            what = f"says that {name} is {signature}, and its options make it {metric.signature}"
            raise UserError(str(folder / MANIFEST), what, accepted=fix)
    try:
        by_metric = {name: _statistics(table, run, name) for name in manifest["metrics"]}
    except LookupError as error:
        raise UserError(str(path), error.args[0], accepted=fix) from error
    run = replace(run, statistics=by_metric)
    for name, stored in manifest.get("scores", {}).get(split, {}).items():
        if name not in by_metric:
            what = f"has a {split} score by {name}, and does not say what it is"
            raise UserError(str(folder / MANIFEST), what, accepted=fix)
        found = run.score(name)
        if not math.isclose(found, stored, rel_tol=1e-9, abs_tol=1e-9):
            what = f"{split} {name} is {stored!r} in manifest.json and {found!r} by the statistics"
            raise UserError(str(folder), what, accepted=run_files.train_again(folder))
    return run


def without_version(signature: str) -> str:
    """Return a signature without the version of its library: another one is told by pairs, not by a run."""
    return re.sub(r"(?<!squad\|)version:[^|]+", "version", signature)


def _side(metric: Metric) -> str:
    return "more" if metric.higher_is_better else "less"


def _statistics(stored: pyarrow.Table, run: ScoredRun, name: str) -> StatisticsTable:
    """Return the statistics of one metric of a run.

    Raises:
        LookupError: a column is missing; the message is a clause.
    """
    is_sparse, names = run.metrics[name].is_sparse, run.manifest["metrics"][name]["columns"]
    places = {column: place for place, column in enumerate(stored.column_names)}

    def column(statistic: str) -> pyarrow.Array:
        if f"{name}.{statistic}" not in places:
            raise LookupError(f"the column {name}.{statistic} is missing")
        return stored.column(places[f"{name}.{statistic}"]).combine_chunks()

    if is_sparse and f"{name}.places" in places:
        indices, data = column("places"), column("values")
        parts = (data.flatten(), indices.flatten(), indices.offsets)
        shape = (stored.num_rows, len(names))
        return csr_array(tuple(map(_numbers, parts)), shape=shape)
    columns = [_numbers(column(statistic)) for statistic in names]
    if not is_sparse:
        return np.stack(columns, axis=1)
    return sparse_columns(columns)  # a run of 0.1


def _numbers(array: pyarrow.Array) -> np.ndarray:
    """Return a column of a file as numpy holds it; `to_numpy` imports pandas, a tenth of a report's time."""
    from pyarrow.types import is_floating, is_integer

    is_plain = not array.null_count and (is_floating(array.type) or is_integer(array.type))
    return np.from_dlpack(array) if is_plain else array.to_numpy(zero_copy_only=False)


def sparse_columns(columns: Sequence[np.ndarray]) -> csr_array:
    """Return dense columns as one sparse table."""
    places = [np.flatnonzero(column) for column in columns]
    values = [column[there] for column, there in zip(columns, places)]
    ends = np.cumsum([0, *map(len, places)])
    shape = (len(columns[0]), len(columns))
    return csc_array((np.concatenate(values), np.concatenate(places), ends), shape=shape).tocsr()


def hash_of_test(data: Mapping[str, Any], split: str | None) -> str | None:
    """Return the hash by which a ledger knows a test set: that of its rows in any order, if it is stored."""
    rows, hashes = data.get("rows") or {}, data.get("hashes") or {}
    return rows.get(split) or hashes.get(split)


def hashed(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()


def without_names(path: Path) -> bytes:
    """Return a file of statistics whose ids and clusters are hashes: they may be text of the data."""
    import pyarrow
    import pyarrow.parquet

    table = _table(path)
    if NAMES_ARE_HASHES in (table.schema.metadata or {}):
        return path.read_bytes()
    for name in ("id", "cluster"):
        names = [hashed(str(value)) for value in table[name].to_pylist()]
        table = table.set_column(table.column_names.index(name), name, pyarrow.array(names))
    metadata = {**(table.schema.metadata or {}), NAMES_ARE_HASHES: b"blake2b"}
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), sink)
    return sink.getvalue().to_pybytes()


def _table(path: Path) -> pyarrow.Table:
    """Return the statistics in a file, with the columns of every run."""
    import pyarrow
    import pyarrow.parquet

    fix = run_files.train_again(path.parent)
    content = reading.content(path, fix)
    try:
        table = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content)).read()
    except (pyarrow.ArrowException, OSError) as error:
        what = f"is damaged ({str(error).splitlines()[0]})"
        raise UserError(str(path), what, accepted=fix) from error
    missing = {"id", "cluster"} - set(table.column_names)
    if missing:
        raise UserError(str(path), f"the column {min(missing)} is missing", accepted=fix)
    return table
