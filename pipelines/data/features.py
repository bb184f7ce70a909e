"""The features of a split: prepared once, then read from a memory-mapped file."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.errors import RunFailed, UserError
from pipelines.registry.fingerprint import fingerprints
from pipelines.shown import printable
from pipelines.storage import atomic
from pipelines.storage.lock import lock
from pipelines.storage.temporary import SECONDS_OF_A_WRITE, folder_beside, sweep
from pipelines.tasks.base import Example, Feature, Task

FORMAT = 2  # increase when the layout of the file changes
SECONDS_TO_PREPARE = 3600.0  # a chunk: older parts of other features belong to no process
CHUNK_EXAMPLES = 200  # prepared at once: tokens with offsets take a hundred times the memory of the text
LEN, EXAMPLE = "_len", "_example"  # columns that are added to those of the task

Reader = Callable[[int], Any]  # a row to its value in one column


class Features(Sequence[Feature]):
    """Features in example order over an Arrow table; each is a plain dict of lists and numbers.

    Attributes:
        lengths: tokens per feature, `task.feature_len`, int64.
        example_index: for each feature the number of its example (from 0, ascending), int64.
        num_targets: targets per feature, int64.
        counts: counts of the task during preparation ("words_without_tokens": 4, ...).
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self.counts: dict[str, int] = json.loads((table.schema.metadata or {}).get(b"counts", b"{}"))
        self.lengths = table[LEN].to_numpy()
        self.example_index = table[EXAMPLE].to_numpy()
        self.num_targets = table["num_targets"].to_numpy()
        self._batches = table.to_batches()
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)]).tolist()
        self._readers: dict[int, dict[str, Reader]] = {}  # of each record batch that was read

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
        """Return the number of features of each example, (num_examples,)."""
        return np.bincount(self.example_index, minlength=num_examples)


def build(
    task: Task, examples: Sequence[Example], split: str, cache_dir: str | Path | None, key: str
) -> Features:
    """Return the features of `examples` from the cache, or prepare them and add them to it.

    One process prepares while others that need the same file wait, so that arms and seeds share one
    preparation. A file that does not match its hash is reported, set aside and prepared again.

    Args:
        cache_dir: folder of the cache; None: keep the features in memory.
        key: hash of all that the features depend on, see `key`.

    Raises:
        UserError: the folder cannot be written.
        RunFailed: its disk is full.
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
            found = _open(path)  # another process may have finished meanwhile
            if found is not None:
                return found
            sweep(path.parent, SECONDS_OF_A_WRITE, of=path.name)
            sweep(path.parent, SECONDS_TO_PREPARE)
            _set_aside(path)
            _write(path, task, examples)
    except OSError as error:
        if atomic.is_disk_full(error):
            what = f"{path.parent}: the disk is full, so features cannot be cached ({error.strerror})"
            raise RunFailed(f"{what}. Free space on that disk and start the same command again.") from error
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
    """Return a hash of a tokenizer's content or a processor's settings, not of where it was loaded from."""
    sha = hashlib.sha256(type(processor).__name__.encode())
    backend = getattr(processor, "backend_tokenizer", None)
    if backend is not None:
        text = backend.to_str()
        # The part before this has truncation and padding, which depend on the last call.
        sha.update((text.partition('"added_tokens":')[2] or text).encode())
        sha.update(repr((processor.model_max_length, processor.pad_token_id)).encode())
    elif hasattr(processor, "save_vocabulary"):
        with TemporaryDirectory() as folder:
            for file in sorted(processor.save_vocabulary(folder)):
                sha.update(Path(file).read_bytes())
        tokens = (processor.special_tokens_map, sorted(processor.get_added_vocab().items()))
        sha.update(repr((processor.model_max_length, tokens)).encode())
    elif hasattr(processor, "to_json_string"):
        sha.update(processor.to_json_string().encode())
    return sha.hexdigest()


# ---- preparing
def _prepared(task: Task, examples: Sequence[Example]) -> Iterator[pa.Table]:
    """Yield the features of the examples, one chunk of examples at a time."""
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
    """Return chunks as one table, with common types and the counts of the task."""
    schema = pa.unify_schemas([chunk.schema for chunk in chunks], promote_options="permissive")
    table = pa.concat_tables([chunk.cast(schema) for chunk in chunks])
    return table.replace_schema_metadata({"counts": json.dumps(getattr(task, "counts", {}))})


def _narrowed(schema: pa.Schema) -> pa.Schema:
    """Return a schema with lists of int32 for int64: enough for ids, positions and labels, half the size."""
    wide = pa.list_(pa.int64())
    return pa.schema(
        [
            pa.field(f.name, pa.list_(pa.int32()) if f.type in (wide, pa.list_(pa.null())) else f.type)
            for f in schema
        ]
    )


def _write(path: Path, task: Task, examples: Sequence[Example]) -> None:
    """Prepare features into a file, with one chunk in memory at a time.

    Chunks are first written to temporary files, because their common types are known only at the end.
    """
    with folder_beside(path) as folder:
        files = _write_chunks(folder, _prepared(task, examples))
        table = _joined([_mapped(file) for file in files], task)
        whole = folder / path.name
        with _writer(whole, table.schema) as writer:
            writer.write_table(table, max_chunksize=CHUNK_EXAMPLES)
        # The hash comes first: a kill between the two leaves a file that does not match, never one unchecked.
        seal = folder / _seal_of(path).name
        seal.write_bytes(atomic.sha256_of(whole).encode())
        os.replace(seal, _seal_of(path))
        os.replace(whole, path)


def _write_chunks(folder: Path, chunks: Iterator[pa.Table]) -> list[Path]:
    """Write chunks into files of `folder`, consecutive chunks of equal types into the same file."""
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
    """Return the features in a file of the cache; None where it is missing or is not as it was written."""
    try:
        if _seal_of(path).read_bytes() != atomic.sha256_of(path).encode():
            return None
        return Features(_mapped(path))
    except (pa.ArrowException, OSError, KeyError, ValueError):
        return None


def _seal_of(path: Path) -> Path:
    """Return the file with the hash of a file of the cache."""
    return path.with_suffix(".sha256")


def _set_aside(path: Path) -> None:
    """Rename a damaged file of the cache, and say so; do nothing where there is none."""
    for file in (path, _seal_of(path)):
        if os.path.lexists(file):
            aside = file.with_name(f"{file.name}.invalid-{secrets.token_hex(4)}")
            file.rename(aside)
            if file == path:
                what = "is not as it was written, so its features are prepared again"
                print(printable(f"{path}: {what}; moved to {aside.name}"), file=sys.stderr, flush=True)


# ---- reading
def _readers(batch: pa.RecordBatch) -> dict[str, Reader]:
    """Return for each column of the task a function from row to plain value."""
    return {
        name: _reader(batch.column(place))
        for place, name in enumerate(batch.schema.names)
        if name not in (LEN, EXAMPLE)
    }


def _reader(column: pa.Array) -> Reader:
    """Return the function from row to plain value; lists go through numpy, which is 100 times faster."""
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
    """Return the first feature and the first of another length, so that a batch of them has padding."""
    other = int((features.lengths != features.lengths[0]).argmax())
    return [features[0], features[other]]


@dataclass(frozen=True)
class Prepared:
    """The examples of a split and their features."""

    examples: Sequence[Example]
    features: Features
