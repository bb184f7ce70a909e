"""Tables in Markdown, for the pages that scripts write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def row(cells: Iterable[str]) -> str:
    """Return one line of a table."""
    return f"| {' | '.join(cells)} |"


def head(columns: Sequence[str]) -> list[str]:
    """Return the line of the names of columns, and the one below it."""
    return [row(columns), row(["---"] * len(columns))]


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a whole table."""
    return "\n".join([*head(columns), *map(row, rows)])
