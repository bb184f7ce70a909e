"""The result of a benchmark: a table, the same as JSON, and whether every target was met."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scripts.md_tables import table


@dataclass(frozen=True)
class Table:
    """A table of results; `rows` are printed, `records` hold every repetition."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    records: Sequence[dict[str, Any]]
    all_met: bool = True
    notes: Sequence[str] = ()  # sentences below the table

    def markdown(self) -> str:
        return "\n\n".join((table(self.columns, self.rows), *self.notes))


@dataclass(frozen=True)
class Comparison:
    """One quantity of attnlab and of the reference, measured in turns in one run.

    Ratios are taken pair by pair, attnlab over the reference: a busy machine slows both alike.
    """

    what: str
    unit: str
    ours: Sequence[float]
    reference: Sequence[float]
    target: float | None = None  # for the ratio
    at_least: bool = True  # False: the ratio must be at most the target

    @property
    def ratios(self) -> list[float]:
        return [ours / reference for ours, reference in zip(self.ours, self.reference, strict=True)]

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        ratio = statistics.median(self.ratios)
        return ratio >= self.target if self.at_least else ratio <= self.target


def compared(comparisons: Sequence[Comparison]) -> Table:
    """Return the table of comparisons with a reference."""
    words = {None: "–", True: "met", False: "MISSED"}
    rows, records = [], []
    for one in comparisons:
        bound = "" if one.target is None else f"{'≥' if one.at_least else '≤'} {one.target:g}x "
        rows.append(
            (
                one.what,
                one.unit,
                with_range(one.ours),
                with_range(one.reference),
                f"{with_range(one.ratios)}x",
                f"{bound}{words[one.met]}",
            )
        )
        records.append({**one.__dict__, "ratio": statistics.median(one.ratios), "met": one.met})
    columns = ("what", "unit", "ours", "reference", "ours / reference", "target")
    return Table(columns, rows, records, all_met=all(one.met is not False for one in comparisons))


def with_range(values: Sequence[float]) -> str:
    """Return the median, and the range when there are several values: `1.23 (1.20-1.31)`."""
    middle = short(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({short(min(values))}-{short(max(values))})"


def short(value: float) -> str:
    """Return a number with three digits, or without decimals from 100 on."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
