"""Data larger than memory: rows are read one by one, checked, and stored in a temporary file.

JSON lines (also gzipped) and parquet can be read this way. Memory holds a few numbers per row; a row is read
again each time it is accessed.
"""

from __future__ import annotations

import gzip
import io
import marshal
import os
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pipelines.data import squad_json
from pipelines.data.decode import decode
from pipelines.data.readers import format_of, json_row, parquet_errors, parquet_features
from pipelines.data.table import BadRow, Row, Table
from pipelines.errors import UserError
from pipelines.storage.paths import rows_of_part, shown, split_part
from pipelines.tasks.base import Example

SAMPLE_ROWS = 100  # from which the columns are taken
BATCH_ROWS = 500  # of parquet, read at once


class OnDisk(Sequence[Example]):
    """A sequence of examples in a temporary file (in TMPDIR) that is deleted when the process ends.

    The file is about as large as the text of the examples.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the sequence lives
        self._ends = array("Q", [0])

    def append(self, example: Example) -> None:
        """Add an example.

        Raises:
            UserError: it holds a value that is neither text, number, bytes, list nor struct.
        """
        try:
            content = marshal.dumps(dict(example))
        except ValueError as error:
            what = f"example {example['id']} holds a value of a type that cannot be stored in a file"
            raise UserError("data.streaming", what, accepted="leave it out, or set false") from error
        self._file.write(content)
        self._ends.append(self._ends[-1] + len(content))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        begin, end = self._ends[index % len(self)], self._ends[index % len(self) + 1]
        self._file.flush()
        return marshal.loads(os.pread(self._file.fileno(), end - begin, begin))


def stream_file(path: str, format: str | None, encoding: str | None) -> Table:
    """Return a table over a file of which only a few rows are in memory at once.

    Raises:
        UserError: no such file, or a format that can only be read as a whole.
    """
    path, part = split_part(path)
    table = _stream_whole(Path(path), shown(path), format, encoding)
    return table.part(rows_of_part(part, table.num_rows)) if part else table


def _stream_whole(file: Path, where: str, format: str | None, encoding: str | None) -> Table:
    if not file.is_file():
        raise UserError(where, "there is no such file", accepted="give JSON lines or parquet")
    format = format or format_of(file, where)
    if format not in ("jsonl", "parquet"):
        fix = "convert it, or set data.streaming: false"
        raise UserError(where, "only JSON lines and parquet are read row by row", format, fix)
    if format == "parquet":
        return _parquet(file, where)
    sample = list(islice(_rows(file, encoding, where), SAMPLE_ROWS))
    if squad_json.is_nested(sample):
        fix = "set data.streaming: false"
        raise UserError(where, "lines of articles with many questions are not read row by row", accepted=fix)
    num_rows = sum(1 for _ in _lines(file, where))
    columns = list(dict.fromkeys(name for row in sample if isinstance(row, dict) for name in row))
    return Table(
        where, columns, num_rows, lambda names: sample, stream=lambda names: _rows(file, encoding, where)
    )


def _rows(file: Path, encoding: str | None, where: str) -> Iterator[Row | BadRow]:
    """Yield the row of each line that is not blank."""
    for number, line in _lines(file, where):
        yield json_row(decode(line, encoding, where, number))


def _lines(file: Path, where: str) -> Iterator[tuple[int, bytes]]:
    """Yield each line that is not blank, with its number in the file."""
    with open(file, "rb") as raw, _unpacked(raw) as opened:
        try:
            for number, line in enumerate(opened, start=1):
                line = line.removesuffix(b"\n")
                if line.strip(b" \t\r\xef\xbb\xbf"):
                    yield number, line
        except (EOFError, OSError) as error:
            what = f"cannot be read to its end: {error}"
            raise UserError(where, what, accepted="fetch it again") from error


def _unpacked(raw: io.BufferedReader) -> io.BufferedReader | gzip.GzipFile:
    """Return the file, or its unpacked content if it is gzip, whatever its name is."""
    return gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == b"\x1f\x8b" else raw


def _parquet(file: Path, where: str) -> Table:
    import pyarrow.parquet

    with parquet_errors(where):
        opened = pyarrow.parquet.ParquetFile(file)
        columns = list(opened.schema_arrow.names)

    def stream(names: Sequence[str]) -> Iterator[Row]:
        columns = [name for name in opened.schema_arrow.names if name in names]
        with parquet_errors(where):
            for batch in opened.iter_batches(BATCH_ROWS, columns=columns, use_threads=False):
                yield from batch.to_pylist()

    return Table(
        where,
        columns,
        opened.metadata.num_rows,
        lambda names: list(islice(stream(names), SAMPLE_ROWS)),
        features=parquet_features(opened.schema_arrow),
        stream=stream,
    )
