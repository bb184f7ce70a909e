"""Separated values (CSV, TSV): delimiter and header line are found in the text."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pipelines.data.cells import decode_columns
from pipelines.errors import UserError
from pipelines.shown import cut, plural

Row = dict[str, Any]
Record = tuple[int, list[str]]  # first line, cells
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
SAMPLE_RECORDS = 500
MOST_OF_A_ROW = 200  # characters that a message shows
NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")
QUOTED = re.compile(r'(?s)"(?:[^"]|"")*""(?:[^"]|"")*"')  # a cell as CSV writes one with quotation marks
BY_PLACE = re.compile(r"column_\d+")  # a column of a file without a header line
SENTENCE = re.compile(r"(?s)\S+\s+\S+\s+\S.*[.!。！]\s*")  # no name; a question may be one, in a survey
STATED = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)  # Excel's first line


@dataclass(frozen=True)
class Separated:
    """The rows of a file (or, for one that cannot be read, why), and how it was read."""

    header: list[str]
    rows: list[Row | str]
    lines: list[int]
    layout: str
    notes: list[str]


def parse(text: str, where: str, wanted: Collection[str], *, by_tabs: bool) -> Separated:
    """Read cells under names. An empty cell is a missing value; lists of JSON or Python become lists.

    The delimiter is the one that a first line "sep=;" states, else the one under which the header has a
    wanted column, else the one that gives most rows the width of the first. Without a header line the
    columns are column_1, column_2 ...; a column whose name is empty is unnamed_1 in the first place.

    Args:
        wanted: names of columns that a task looks for.
        by_tabs: tabs alone separate, and a quotation mark is text (IANA text/tab-separated-values).

    Raises:
        UserError: quotation marks do not match, or the header repeats a name.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    stated = None if by_tabs else STATED.match(text)
    text = text[stated.end() :] if stated else text
    delimiter = "\t" if by_tabs else stated[1] if stated else _delimiter(text, wanted)
    records = list(_records(text, delimiter, where, quoted=not by_tabs, first_line=2 if stated else 1))
    if not records:
        return Separated([], [], [], "", [])
    first = [name or f"unnamed_{place}" for place, name in enumerate(records[0][1], start=1)]
    has_header = _has_header(records, wanted)
    header = first if has_header else [f"column_{place}" for place in range(1, len(first) + 1)]
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise UserError(where, "the first line repeats a column name", ", ".join(repeated))
    rows = [_row(header, cells) for _, cells in records[has_header:]]
    decode_columns(header, [row for row in rows if isinstance(row, dict)])
    notes = [] if delimiter in (",", "\t") and by_tabs == (delimiter == "\t") else [_split_at(delimiter)]
    quoted = sum(bool(QUOTED.fullmatch(cell)) for _, cells in records for cell in cells) if by_tabs else 0
    if quoted:
        what = f"{plural(quoted, 'cell')} in quotation marks with doubled ones inside"
        notes.append(f"has {what}, which are text here (data.format: csv reads them as CSV does)")
    if has_header:
        unnamed = "if the first line holds no names, take column_1, column_2 ..."
        layout = f"{_split_at(delimiter)}, the first line holds the names ({unnamed})"
    else:
        notes.append("has no header line, its columns are column_1, column_2 ...")
        row = cut(str(first), MOST_OF_A_ROW)
        layout = f"{_split_at(delimiter)}, without a header line (the first row is {row})"
    layout += "; data.format: conll reads a word a line" if delimiter == "\t" else ""
    return Separated(header, rows, [line for line, _ in records[has_header:]], layout, notes)


def _split_at(delimiter: str) -> str:
    return f"split at {DELIMITERS.get(delimiter, repr(delimiter))}"


def _row(header: Sequence[str], cells: Sequence[str]) -> Row | str:
    if len(cells) != len(header):
        return f"has {len(cells)} cells under {len(header)} column names"
    return {name: cell if cell != "" else None for name, cell in zip(header, cells)}


def _records(text: str, delimiter: str, where: str, *, quoted: bool, first_line: int = 1) -> Iterator[Record]:
    """Yield the cells of each row that is not blank.

    Raises:
        UserError: quotation marks do not match.
    """
    lines = io.StringIO(text, newline="")
    if quoted:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
    else:
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    lines_before = first_line - 1
    try:
        for cells in reader:
            line, first_line = first_line, reader.line_num + lines_before + 1
            if cells:
                yield line, cells
    except csv.Error as error:
        fix = 'look for a quotation mark without its end, or inside of a cell, where CSV doubles it ("")'
        raise UserError(f"{where}, line {first_line}", f"cannot be read ({error})", accepted=fix) from error


def _delimiter(text: str, wanted: Collection[str]) -> str:
    counts: dict[str, int] = {}
    for delimiter in DELIMITERS:
        sample: list[list[str]] = []
        with suppress(UserError):  # told when the file is read as a whole
            sample += (c for _, c in islice(_records(text, delimiter, "", quoted=True), SAMPLE_RECORDS))
        width = len(sample[0]) if sample else 0
        if width > 1 and set(wanted) & set(sample[0]):
            return delimiter
        counts[delimiter] = sum(len(cells) == width for cells in sample) if width > 1 else 0
    return max(counts, key=lambda delimiter: counts[delimiter])


def _has_header(records: Sequence[Record], wanted: Collection[str]) -> bool:
    """Return whether the first line holds names.

    It does if a task looks for one of them. It does not if a task looks for column_1, or if a cell is a
    number or a sentence, or stands again in its column, as labels do.
    """
    first = records[0][1]
    if set(wanted) & set(first):
        return True
    if any(map(BY_PLACE.fullmatch, wanted)):
        return False
    if any(NUMBER.fullmatch(cell) or SENTENCE.fullmatch(cell) for cell in first):
        return False
    below = (cells for _, cells in records[1:] if len(cells) == len(first))
    return not any(cell and cell == name for cells in below for cell, name in zip(cells, first))
