"""Readers of every data format: one table per source, with errors that name file and row.

Local text is parsed here instead of by `datasets`, whose readers guess types ("007" becomes 7), do not report
which row is wrong and keep a second copy in a cache. `datasets` reads the Hub and `ClassLabel` names.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from pipelines.data import conll, squad_json
from pipelines.data.decode import decode, read_bytes, unpack
from pipelines.errors import UserError
from pipelines.storage.paths import rows_of_part, shown, split_part

Row = dict[str, Any]
SUFFIXES = {
    ".parquet": "parquet",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".conll": "conll",
    ".iob": "conll",
    ".iob2": "conll",
    ".bio": "conll",
}
FORMATS = ("parquet", "json", "jsonl", "csv", "tsv", "conll")


@dataclass(frozen=True)
class BadRow:
    """A row that could not be read, with the reason as a clause."""

    reason: str


@dataclass
class Table:
    """One split of a source, before a task selects its columns."""

    where: str  # the file or data set, for messages
    columns: list[str]
    num_rows: int
    take: Callable[[Sequence[str]], list[Row | BadRow]]  # all rows, with at least these top-level columns
    features: Any = None  # `datasets.Features` if the source has them, for ClassLabel names
    lines: Sequence[int] = ()  # first line of each row, in text
    notes: list[str] = field(default_factory=list)
    layout: str = ""  # how a file without named columns was read
    first: int = 0  # row of the file at which a part begins
    stream: Callable[[Sequence[str]], Iterator[Row | BadRow]] | None = None  # instead of `take`, row by row

    def rows(self, names: Sequence[str]) -> Iterator[Row | BadRow]:
        """Return the rows, with at least these top-level columns."""
        return iter(self.take(names)) if self.stream is None else self.stream(names)

    def number(self, index: int) -> int:
        """Return the number in the file of row `index` (from 0), counted from 1."""
        return self.first + index + 1

    def place(self, index: int) -> str:
        """Return file, row and line of row `index` (from 0), for messages."""
        number = self.number(index)
        line = f" (line {self.lines[index]})" if self.lines and self.lines[index] != number else ""
        return f"{self.where}, row {number}{line}"

    def part(self, rows: range) -> Table:
        """Return a table of some of the rows, which keep their numbers in the file."""
        kept = slice(rows.start, rows.stop)
        take, stream, lines = self.take, self.stream, self.lines[kept]
        part = replace(
            self, num_rows=len(rows), take=lambda names: take(names)[kept], lines=lines, first=rows.start
        )
        if stream is None:
            return part
        return replace(part, take=take, stream=lambda names: islice(stream(names), rows.start, rows.stop))


def of_rows(
    where: str, rows: Sequence[Row | BadRow], lines: Sequence[int] = (), notes: Sequence[str] = ()
) -> Table:
    """Return a table of rows in memory; its columns are those of any row, in order of appearance."""
    columns = list(dict.fromkeys(name for row in rows if isinstance(row, dict) for name in row))
    return Table(where, columns, len(rows), lambda _: list(rows), lines=lines, notes=list(notes))


def of_arrow(where: str, table: Any, features: Any = None) -> Table:
    """Return a table over Arrow columns; only the columns that are taken become Python objects."""
    return Table(
        where,
        list(table.column_names),
        table.num_rows,
        lambda names: table.select([name for name in table.column_names if name in names]).to_pylist(),
        features=features,
    )


# ---- files
def read_file(path: str, format: str | None = None, encoding: str | None = None) -> Table:
    """Read a local file, or the rows named after it: "a.csv[:80%]".

    Args:
        format: one of `FORMATS`; None takes it from the name, with or without ".gz".
        encoding: of text; None: that of a byte order mark, else UTF-8.

    Raises:
        UserError: no such file, an unknown format, or content of another format.
    """
    path, part = split_part(path)
    table = _read_whole(path, format, encoding)
    return table.part(rows_of_part(part, table.num_rows)) if part else table


def _read_whole(path: str, format: str | None, encoding: str | None) -> Table:
    file, where = Path(path), shown(path)
    content = read_bytes(file)
    format = format or format_of(file, where)
    if (format == "parquet") != content.startswith(b"PAR1"):
        fix = "set data.format" if format == "parquet" else "set data.format: parquet"
        raise UserError(where, f"is {'not ' if format == 'parquet' else ''}a parquet file", accepted=fix)
    if format == "parquet":
        return _read_parquet(content, where)
    notes: list[str] = []
    text = decode(unpack(content, file, notes), encoding, where)
    table = {
        "json": _read_json,
        "jsonl": _read_jsonl,
        "csv": _read_csv,
        "tsv": _read_tsv,
        "conll": _read_conll,
    }[format](text, where)
    table.notes[:0] = notes
    return table


def format_of(file: Path, where: str) -> str:
    """Return the format that the name of a file states.

    Raises:
        UserError: it states none.
    """
    suffixes = [suffix.lower() for suffix in file.suffixes]
    suffix = next((s for s in reversed(suffixes) if s != ".gz"), "")
    if suffix not in SUFFIXES:
        raise UserError(
            where,
            "the format is not known from the name",
            accepted=f"set data.format to {', '.join(FORMATS)}",
        )
    return SUFFIXES[suffix]


def _read_parquet(content: bytes, where: str) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content)).read(use_threads=False)
        table.validate(full=True)  # text that is not UTF-8 would fail later, without the file name
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise UserError(
            where, f"is not a whole parquet file ({reason})", accepted="fetch it again"
        ) from error
    return of_arrow(where, table, parquet_features(table.schema))


def parquet_features(schema: Any) -> Any:
    """Return the `datasets.Features` that a parquet file stores, with ClassLabel names; else None."""
    if b"huggingface" not in (schema.metadata or {}):
        return None
    from datasets import Features

    return Features.from_arrow_schema(schema)


def _read_json(text: str, where: str) -> Table:
    """Read a list of objects, an object with one such list ("data"), or JSON lines in a .json file."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith("{") and "Extra data" in str(error):
            return _read_jsonl(text, where)
        fix = "the file may be cut off; repair it or fetch it again"
        raise UserError(where, f"is not valid JSON ({error})", accepted=fix) from error
    if isinstance(value, dict):
        lists = [v for v in value.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
        value = lists[0] if len(lists) == 1 else [value]
    if not isinstance(value, list):
        raise UserError(where, f"holds {_kind(value)}", accepted="a list of objects, one per row")
    if squad_json.is_nested(value):
        rows = [BadRow(row) if isinstance(row, str) else row for row in squad_json.questions(value)]
        return of_rows(where, rows)
    return of_rows(where, [_as_row(entry, text) for entry in value])


def _read_jsonl(text: str, where: str) -> Table:
    rows: list[Row | BadRow] = []
    lines: list[int] = []
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: strings may contain U+2028
        if line.strip():
            lines.append(number)
            rows.append(json_row(line))
    return of_rows(where, rows, lines)


def json_row(line: str) -> Row | BadRow:
    """Return the row of a line of JSON."""
    try:
        return _as_row(json.loads(line), line)
    except (ValueError, RecursionError) as error:
        at = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
        return BadRow(f"is not valid JSON ({at}); the line may be cut off")


def _as_row(value: Any, source: str) -> Row | BadRow:
    if not isinstance(value, dict):
        return BadRow(f"is {_kind(value)}, not an object with columns")
    if "\\ud" in source or "\\uD" in source:  # an escape may be half of a surrogate pair
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            return BadRow(f"has half a character (\\u{ord(error.object[error.start]):04x}), which is no text")
    return value


def _read_csv(text: str, where: str) -> Table:
    return _read_separated(text, where, strict=True)


def _read_tsv(text: str, where: str) -> Table:
    # Tab-separated values have no quotes: a quotation mark is text (IANA text/tab-separated-values).
    return _read_separated(text, where, delimiter="\t", quoting=csv.QUOTE_NONE)


def _read_separated(text: str, where: str, **dialect: Any) -> Table:
    """Read text cells under a header line. An empty cell is a missing value; JSON lists become lists."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    reader = csv.reader(io.StringIO(text, newline=""), **dialect)
    rows: list[Row | BadRow] = []
    lines: list[int] = []
    header: list[str] | None = None
    first_line = 1
    try:
        for cells in reader:
            line, first_line = first_line, reader.line_num + 1
            if not cells:
                continue
            if header is None:
                header = cells
            elif len(cells) == len(header):
                rows.append({name: cell if cell != "" else None for name, cell in zip(header, cells)})
                lines.append(line)
            else:
                rows.append(BadRow(f"has {len(cells)} cells under {len(header)} column names"))
                lines.append(line)
    except csv.Error as error:
        raise UserError(
            f"{where}, line {first_line}",
            f"cannot be read ({error})",
            accepted="look for a quotation mark without its end",
        ) from error
    header = header or []
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise UserError(where, "the first line repeats a column name", ", ".join(repeated))
    _decode_lists(header, [row for row in rows if isinstance(row, dict)])
    table = of_rows(where, rows, lines)
    table.columns = header
    return table


def _decode_lists(header: Sequence[str], rows: Sequence[Row]) -> None:
    """Turn each column whose cells are all JSON lists into a column of lists."""
    for name in header:
        cells = [row[name] for row in rows if row[name] is not None]
        if not cells or not all(cell.startswith("[") and cell.endswith("]") for cell in cells):
            continue
        try:
            decoded = iter([json.loads(cell) for cell in cells])
        except ValueError:
            continue
        for row in rows:
            row[name] = None if row[name] is None else next(decoded)


def _read_conll(text: str, where: str) -> Table:
    read = conll.parse(text)
    rows = [BadRow(sentence) if isinstance(sentence, str) else sentence for sentence in read.sentences]
    table = of_rows(where, rows, read.first_lines, [f"{where}: {note}" for note in read.notes])
    table.layout = read.layout
    return table


# ---- the Hub
def read_hub(name: str, config: str | None, revision: str | None, split: str) -> Table:
    """Read a split ("train", "train[:5%]") of a Hub dataset, or of a folder with the same layout.

    Raises:
        UserError: `datasets` cannot load it; the message is that of `datasets`.
    """
    from datasets import load_dataset

    from pipelines.data import sound_folders

    sound_folders.read_by_path()
    where = f"{name}, split {split}"
    with _errors_as_user_errors(name):
        rows = load_dataset(name, config, revision=revision, split=split)
    return of_arrow(where, rows.with_format("arrow")[:], rows.features)


def hub_splits(name: str, config: str | None, revision: str | None) -> list[str]:
    """Return the names of the splits of a Hub dataset."""
    from datasets import get_dataset_split_names

    with _errors_as_user_errors(name):
        return list(get_dataset_split_names(name, config, revision=revision))


@contextmanager
def _errors_as_user_errors(name: str) -> Iterator[None]:
    """Turn any error of loading a Hub dataset into a `UserError`."""
    import datasets

    try:
        yield
    except Exception as error:
        offline = datasets.config.HF_HUB_OFFLINE or isinstance(error, ConnectionError | TimeoutError)
        fix = "without a network, give local files as data.train and data.validation" if offline else None
        reason = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
        raise UserError(f"data.name {name!r}", f"cannot be loaded: {reason}", accepted=fix) from error


def _kind(value: object) -> str:
    """Return the kind of a JSON value in words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
