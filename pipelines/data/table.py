"""The rows of one source, before a task selects its columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

Row = dict[str, Any]


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
    tag_column: int | None = None  # of a file without named columns that was found to hold the tags
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
