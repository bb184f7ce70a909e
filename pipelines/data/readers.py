"""Readers of every data format: one table per source, with errors that name file and row.

Local text is parsed here instead of by `datasets`, whose readers guess types ("007" becomes 7), do not report
which row is wrong and keep a second copy in a cache. `datasets` reads the Hub and `ClassLabel` names.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.data import conll, plain_text, separated, squad_json
from pipelines.data.decode import decode, read_bytes, unpack
from pipelines.data.table import BadRow, Row, Table, of_arrow, of_rows
from pipelines.errors import UserError
from pipelines.hub import mirror
from pipelines.hub.data_set import advice, one_line, open_data_set
from pipelines.hub.messages import DataPart
from pipelines.storage.paths import rows_of_part, shown, split_part

SUFFIXES = {
    ".parquet": "parquet",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".conll": "conll",
    ".conllu": "conll",
    ".iob": "conll",
    ".iob2": "conll",
    ".bio": "conll",
}
TEXT = ".txt"  # lines or paragraphs, whichever the file has
FORMATS = ("parquet", "json", "jsonl", "csv", "tsv", "conll", "lines", "paragraphs")


# ---- files
def read_file(
    path: str, format: str | None = None, encoding: str | None = None, wanted: Collection[str] = ()
) -> Table:
    """Read a local file, or the rows named after it: "a.csv[:80%]".

    Args:
        format: one of `FORMATS`; None takes it from the name, with or without ".gz".
        encoding: of text; None: that of a byte order mark, else UTF-8.
        wanted: columns that a task looks for, by which a header line is known.

    Raises:
        UserError: no such file, an unknown format, or content of another format.
    """
    path, part = split_part(path)
    table = _read_whole(path, format, encoding, wanted)
    return table.part(rows_of_part(part, table.num_rows)) if part else table


def _read_whole(path: str, format: str | None, encoding: str | None, wanted: Collection[str]) -> Table:
    file, where = Path(path), shown(path)
    content = read_bytes(file)
    is_text = format in plain_text.UNITS or (format is None and suffix_of(file) == TEXT)
    kind = "text" if is_text else format or format_of(file, where)
    if (kind == "parquet") != content.startswith(b"PAR1"):
        fix = "set data.format" if kind == "parquet" else "set data.format: parquet"
        raise UserError(where, f"is {'not ' if kind == 'parquet' else ''}a parquet file", accepted=fix)
    if kind == "parquet":
        return _read_parquet(content, where)
    notes: list[str] = []
    text = decode(unpack(content, file, notes), encoding, where)
    if kind in ("csv", "tsv"):
        table = _read_separated(kind, text, where, wanted)
    elif kind == "text":
        table = _read_text(format, text, where)
    else:
        table = {"json": _read_json, "jsonl": _read_jsonl, "conll": _read_conll}[kind](text, where)
    table.notes[:0] = notes
    return table


def read_parallel(files: Mapping[str, str], encoding: str | None = None) -> Table:
    """Read text files of which line n together is row n: column -> file, perhaps with rows (a.en[:80%]).

    Raises:
        UserError: a file cannot be read, or they have different numbers of lines or ranges of rows.
    """
    named = {column: split_part(path) for column, path in files.items()}
    where = " + ".join(shown(path) for path, _ in named.values())
    parts = sorted({part for _, part in named.values()})
    if len(parts) > 1:
        raise UserError(where, "parallel files must have one range of rows", " and ".join(parts))
    columns: dict[str, list[str]] = {}
    notes: list[str] = []
    for column, (path, _) in named.items():
        content = unpack(read_bytes(Path(path)), Path(path), notes)
        columns[column] = plain_text.lines_of(decode(content, encoding, shown(path)))
    if len({len(lines) for lines in columns.values()}) > 1:
        counts = ", ".join(f"{shown(named[name][0])} {len(lines):,}" for name, lines in columns.items())
        fix = "line n of each must belong together"
        raise UserError(where, "the files have different numbers of lines", counts, fix)
    rows = [dict(zip(columns, cells)) for cells in zip(*columns.values())]
    table = of_rows(where, rows, notes=notes)
    table.layout = "parallel text files, a row a line"
    return table.part(rows_of_part(parts[0], table.num_rows)) if parts[0] else table


def suffix_of(file: Path) -> str:
    """Return the suffix that states the format: the last one but ".gz", in lower case."""
    return next((s for s in map(str.lower, reversed(file.suffixes)) if s != ".gz"), "")


def format_of(file: Path, where: str) -> str:
    """Return the format that the name of a file states.

    Raises:
        UserError: it states none.
    """
    suffix = suffix_of(file)
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

    with parquet_errors(where):
        table = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content)).read(use_threads=False)
        table.validate(full=True)  # text that is not UTF-8 would fail later, without the file name
        return of_arrow(where, table, parquet_features(table.schema))


@contextmanager
def parquet_errors(where: str) -> Iterator[None]:
    """Turn every error of reading a damaged parquet file into a `UserError`."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise UserError(
            where, f"is not a whole parquet file ({reason})", accepted="fetch it again"
        ) from error


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
        lists = {k: v for k, v in value.items() if isinstance(v, list) and v and isinstance(v[0], dict)}
        if len(lists) > 1 and len(lists) == len(value):
            fix = "write each list to a file of its own, and name them as data.train, data.validation ..."
            raise UserError(where, "holds several lists of rows", ", ".join(lists), fix)
        numbered = _numbered_columns(value)
        if len(lists) != 1 and not numbered:
            return _one_object(value, text, where)
        value = numbered or next(iter(lists.values()))
    if not isinstance(value, list):
        raise UserError(where, f"holds {_kind(value)}", accepted="a list of objects, one per row")
    if squad_json.is_nested(value):
        rows = [BadRow(row) if isinstance(row, str) else row for row in squad_json.questions(value)]
        return of_rows(where, rows)
    return of_rows(where, [_as_row(entry, text) for entry in value])


def _numbered_columns(value: Row) -> list[Row]:
    """Return the rows of a table whose columns are objects by row (pandas: {"a": {"0": ..., "1": ...}})."""
    columns = list(value.values())
    if not columns or not all(isinstance(column, dict) and column for column in columns):
        return []
    rows = columns[0].keys()
    if any(column.keys() != rows for column in columns) or not all(row.isdigit() for row in rows):
        return []
    return [{name: column[row] for name, column in value.items()} for row in rows]


def _one_object(value: Row, text: str, where: str) -> Table:
    """Return the table of one row; a note tells where it may be a table written column by column."""
    columns = [column for column in value.values() if isinstance(column, list | dict) and len(column) > 1]
    is_table = len(columns) == len(value) and len({len(column) for column in columns}) == 1
    note = f"{where}: holds one object, read as one row; if each of its columns holds a value for every row"
    notes = [f"{note}, write a list of objects, one per row"] if is_table else []
    rows = squad_json.questions([value]) if squad_json.is_nested([value]) else [_as_row(value, text)]
    return of_rows(where, [BadRow(row) if isinstance(row, str) else row for row in rows], notes=notes)


def _read_jsonl(text: str, where: str) -> Table:
    rows: list[Row | BadRow] = []
    lines: list[int] = []
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: strings may contain U+2028
        if line.strip():
            lines.append(number)
            rows.append(json_row(line))
    return _without_articles(where, rows, lines)


def _without_articles(where: str, rows: list[Row | BadRow], lines: list[int]) -> Table:
    """Return a table of lines; lines of articles become rows of questions, with the line of their article."""
    if not squad_json.is_nested(rows):
        return of_rows(where, rows, lines)
    found: list[tuple[int, Row | BadRow]] = []
    for number, row in zip(lines, rows):
        inside = [row] if isinstance(row, BadRow) else squad_json.questions([row])
        found += [(number, BadRow(one) if isinstance(one, str) else one) for one in inside]
    return of_rows(where, [row for _, row in found], [number for number, _ in found])


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


def _read_separated(format: str, text: str, where: str, wanted: Collection[str]) -> Table:
    read = separated.parse(text, where, wanted, by_tabs=format == "tsv")
    rows = [BadRow(row) if isinstance(row, str) else row for row in read.rows]
    table = of_rows(where, rows, read.lines, [f"{where}: {note}" for note in read.notes])
    table.columns, table.layout = read.header, read.layout
    return table


def _read_text(format: str | None, text: str, where: str) -> Table:
    unit, rows, lines = plain_text.parse(text, format)
    other = next(name for name in plain_text.UNITS if name != unit)
    layout = f"read as {unit} of plain text (data.format reads it as {other}, conll, csv ...)"
    table = of_rows(where, rows, lines, [] if format else [f"{where}: {layout}"])
    table.layout = layout
    return table


def _read_conll(text: str, where: str) -> Table:
    read = conll.parse(text)
    rows = [BadRow(sentence) if isinstance(sentence, str) else sentence for sentence in read.sentences]
    table = of_rows(where, rows, read.first_lines, [f"{where}: {note}" for note in read.notes])
    table.layout, table.tag_column = read.layout, read.tag_column
    return table


# ---- the Hub
@dataclass(frozen=True)
class HubData:
    """A Hub dataset, or a folder with the same layout, opened once for all of its splits."""

    name: str
    builder: Any

    def splits(self) -> list[str]:
        """Return the names of its splits."""
        with _errors_as_user_errors(self.name):
            return list(self.builder.config.data_files or self.builder.info.splits or ())

    def read(self, split: str) -> Table:
        """Read a split ("train", "train[:5%]").

        Raises:
            UserError: `datasets` cannot load it; the message is that of `datasets`.
        """
        with _errors_as_user_errors(self.name):
            self.builder.download_and_prepare()
            rows = self.builder.as_dataset(split=split)
        return of_arrow(f"{self.name}, split {split}", rows.with_format("arrow")[:], rows.features)


def open_hub(name: str, part: DataPart, revision: str | None) -> HubData:
    """Open a part of a Hub dataset.

    Raises:
        UserError: `datasets` cannot open it; the message is that of `datasets`.
    """
    from pipelines.data import sound_folders

    sound_folders.read_by_path()
    with _errors_as_user_errors(name):
        return HubData(name, open_data_set(name, part, revision))


@contextmanager
def _errors_as_user_errors(name: str) -> Iterator[None]:
    """Turn any error of loading a Hub dataset into a `UserError`."""
    import datasets

    try:
        yield
    except UserError:
        raise
    except Exception as error:
        offline = datasets.config.HF_HUB_OFFLINE or isinstance(error, ConnectionError | TimeoutError)
        fix = mirror.lacks("datasets", name)
        if fix is None and offline:
            fix = (
                "without a network, give local files as data.train and data.validation, "
                f"or fill a mirror elsewhere with attnlab fetch and name it by {mirror.VARIABLE}"
            )
        what = f"cannot be loaded: {one_line(error)}"
        raise UserError(f"data.name {name!r}", what, accepted=advice(error) or fix) from error


def _kind(value: object) -> str:
    """Return the kind of a JSON value in words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
