"""Features of a split, prepared once and read from a memory-mapped file ever after."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.errors import UserError
from pipelines.registry.fingerprint import fingerprints
from pipelines.storage.lock import lock
from pipelines.tasks.base import Example, Feature, Task

FORMAT = 1  # raise when the file's layout changes
CHUNK_EXAMPLES = 200  # prepared at a time: as tokens with their places a text is a hundred times itself
LEN, EXAMPLE = "_len", "_example"  # our columns beside the task's


class Features(Sequence[Feature]):
    """Features in example order over an Arrow table; plain dicts of lists and numbers come out.

    Attributes:
        lengths: tokens per feature, `task.feature_len`, int64.
        example_index: for each feature, the number of its example (from 0, never falling), int64.
        num_targets: targets per feature, int64.
        counts: what the task counted while preparing ("words_without_tokens": 4, ...).
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self.counts: dict[str, int] = json.loads((table.schema.metadata or {}).get(b"counts", b"{}"))
        self.lengths = table[LEN].to_numpy()
        self.example_index = table[EXAMPLE].to_numpy()
        self.num_targets = table["num_targets"].to_numpy()
        self._batches = table.to_batches()
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)]).tolist()
        self._readers: dict[int, dict[str, Any]] = {}

    def __len__(self) -> int:
        return self._table.num_rows

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index = int(index) % len(self)
        batch = bisect_right(self._starts, index) - 1
        row = index - self._starts[batch]
        if batch not in self._readers:
            self._readers[batch] = _readers(self._batches[batch])
        return {name: read(row) for name, read in self._readers[batch].items()}

    def feature_counts(self, num_examples: int) -> np.ndarray:
        """Features of each example, which a batch plan is made from."""
        return np.bincount(self.example_index, minlength=num_examples)


def build(
    task: Task, examples: Sequence[Example], split: str, cache_dir: str | Path | None, key: str
) -> Features:
    """Features of `examples`: from the cache where it has them, else prepared and put there.

    One process prepares while others that want the same file wait for it, so arms and seeds share one
    preparation. A file that cannot be read (a full disk, another layout) is prepared again.

    Args:
        cache_dir: folder of the cache; None keeps the features in memory.
        key: what the features depend on, from the function of that name.

    Raises:
        UserError: the folder cannot be written.
    """
    if cache_dir is None:
        return Features(_joined(list(_prepared(task, examples)), task))
    path = Path(cache_dir) / f"{split}-{key[:32]}.arrow"
    found = _open(path)
    if found is not None:
        return found
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with lock(path.with_suffix(".lock"), wait=True):
            found = _open(path)  # another process may have finished while we waited
            if found is not None:
                return found
            _write(path, task, examples)
    except OSError as error:
        raise UserError(str(path.parent), f"features cannot be cached ({error.strerror})") from error
    return Features(_mapped(path))


def key(task: Task, name: str, options: Mapping[str, Any], data_hash: str) -> str:
    """Return the sha256 of all that decides the features: rows, processor, options, state, sources."""
    parts = {
        "format": FORMAT,
        "task": name,
        "data": data_hash,
        "processor": _processor_hash(task.processor),
        "family": task.family,
        "options": dict(options),
        "state": task.state(),
        "sources": fingerprints(type(task).__module__),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=repr).encode()).hexdigest()


def _processor_hash(processor: Any) -> str:
    """Content of a tokenizer, or the settings of another processor; never where it was loaded from."""
    sha = hashlib.sha256(type(processor).__name__.encode())
    backend = getattr(processor, "backend_tokenizer", None)
    if backend is not None:
        text = backend.to_str()
        # Before this stand truncation and padding, which say how it was called last, not what it is.
        sha.update((text.partition('"added_tokens":')[2] or text).encode())
        sha.update(repr((processor.model_max_length, processor.pad_token_id)).encode())
    elif hasattr(processor, "to_json_string"):
        sha.update(processor.to_json_string().encode())
    return sha.hexdigest()


# ---- preparing
def _prepared(task: Task, examples: Sequence[Example]) -> Iterator[pa.Table]:
    """The features of some examples after the other."""
    if hasattr(task, "counts"):
        task.counts.clear()
    for start in range(0, len(examples), CHUNK_EXAMPLES):
        chunk = examples[start : start + CHUNK_EXAMPLES]
        features = task.prepare(chunk)
        number = {example["id"]: start + place for place, example in enumerate(chunk)}
        indices = [number[feature["example_id"]] for feature in features]
        if sorted(set(indices)) != list(number.values()) or indices != sorted(indices):
            raise RuntimeError("a task must give every example at least one feature, in example order")
        for feature, index in zip(features, indices):
            feature[LEN], feature[EXAMPLE] = task.feature_len(feature), index
        table = pa.Table.from_pylist(features)
        yield table.cast(_narrowed(table.schema))


def _joined(chunks: Sequence[pa.Table], task: Task) -> pa.Table:
    """Chunks as one table, of the types that all of them need, with what the task counted."""
    schema = pa.unify_schemas([chunk.schema for chunk in chunks], promote_options="permissive")
    table = pa.concat_tables([chunk.cast(schema) for chunk in chunks])
    return table.replace_schema_metadata({"counts": json.dumps(getattr(task, "counts", {}))})


def _narrowed(schema: pa.Schema) -> pa.Schema:
    """Lists of whole numbers as int32: ids, positions and labels need no more, and files halve."""
    wide = pa.list_(pa.int64())
    return pa.schema(
        [
            pa.field(f.name, pa.list_(pa.int32()) if f.type in (wide, pa.list_(pa.null())) else f.type)
            for f in schema
        ]
    )


def _write(path: Path, task: Task, examples: Sequence[Example]) -> None:
    """Prepare into a file, a chunk in memory at a time. They wait beside it, because the types that all of
    them need are known in the end."""
    beside = path.with_suffix(f".{secrets.token_hex(4)}.tmp")
    try:
        with TemporaryDirectory(dir=path.parent, prefix=f"{path.stem}.") as folder:
            waiting = _wait(Path(folder), _prepared(task, examples))
            table = _joined([_mapped(file) for file in waiting], task)
            with _writer(beside, table.schema) as writer:
                writer.write_table(table, max_chunksize=CHUNK_EXAMPLES)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _wait(folder: Path, chunks: Iterator[pa.Table]) -> list[Path]:
    """Write chunks into files of `folder`, those of equal types after each other into the same one."""
    files: list[Path] = []
    for schema, alike in groupby(chunks, key=lambda chunk: chunk.schema):
        files.append(folder / f"{len(files)}.arrow")
        with _writer(files[-1], schema) as writer:
            for chunk in alike:
                writer.write_table(chunk)
    return files


@contextmanager
def _writer(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatchFileWriter]:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        yield writer


def _mapped(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _open(path: Path) -> Features | None:
    if not path.exists():
        return None
    try:
        return Features(_mapped(path))
    except (pa.ArrowException, OSError, KeyError, ValueError):
        return None


# ---- reading
def _readers(batch: pa.RecordBatch) -> dict[str, Any]:
    """For each of the task's columns, a function from row to plain value."""
    return {
        name: _reader(batch.column(place))
        for place, name in enumerate(batch.schema.names)
        if name not in (LEN, EXAMPLE)
    }


def _reader(column: pa.Array) -> Any:
    """Lists of numbers through numpy: a hundred times faster than Arrow's own way to Python objects."""
    kind = column.type
    if column.null_count == 0 and _is_number(kind):
        numbers = column.to_numpy()
        return lambda row: numbers[row].item()
    is_list = pa.types.is_list(kind) and _is_number(kind.value_type)
    if is_list and column.null_count == column.values.null_count == 0:
        offsets, values = column.offsets.to_numpy(), column.values.to_numpy()
        return lambda row: values[offsets[row] : offsets[row + 1]].tolist()
    return lambda row: column[row].as_py()


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def two_lengths(features: Features) -> list[Feature]:
    """The first feature and the first that is longer or shorter, so that a batch of them has padding."""
    other = int((features.lengths != features.lengths[0]).argmax())
    return [features[0], features[other]]


@dataclass(frozen=True)
class Prepared:
    """A split ready to use: rows and their features."""

    examples: Sequence[Example]
    features: Features
