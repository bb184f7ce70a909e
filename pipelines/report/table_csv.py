"""results.csv: one line for each comparison, for spreadsheets; docs/ablations.md describes the columns."""

from __future__ import annotations

import csv
from io import StringIO

from pipelines.report import format as fmt
from pipelines.report import settling
from pipelines.report.data import ReportData, Row
from pipelines.shown import printable

COLUMNS = (
    "cell",
    "task",
    "model",
    "split",
    "metric",
    "unit",
    "primary",
    "arm",
    "baseline",
    "seeds",
    "examples",
    "baseline_mean",
    "arm_mean",
    "difference",
    "ci95_low",
    "ci95_high",
    "p",
    "p_holm",
    "mde80",
    "margin",
    "verdict",
    "note",
    "time_change_percent",
    "time_ci95_low",
    "time_ci95_high",
)


def render(facts: ReportData) -> str:
    """Return the whole file; a number that does not exist is an empty field."""
    file = StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(COLUMNS)
    for row in facts.rows:
        lines.writerow([_plain(value) for value in _line(facts, row)])
    return file.getvalue()


def _line(facts: ReportData, row: Row) -> list[object]:
    ratio, reach = facts.time_ratio(row), facts.time_interval(row) or (None, None)
    return [
        row.cell,
        row.task,
        row.model,
        row.split,
        row.metric,
        row.unit,
        "yes" if row.primary else "no",
        row.arm,
        row.baseline,
        len(fmt.finite(row.by_seed)),
        row.n_examples,
        fmt.mean(row.baseline_scores),
        fmt.mean(row.arm_scores),
        row.difference,
        *(fmt.bounds(row.ci95) or (None, None)),
        row.p,
        row.p_holm,
        row.mde80,
        row.margin,
        row.verdict,
        settling.note(facts, row),
        *(None if one is None else 100 * (one - 1) for one in (ratio, *reach)),
    ]


def _plain(value: object) -> object:
    """Return a value for a spreadsheet: no NaN, and no text that it would compute as a formula."""
    if isinstance(value, float):
        return value if fmt.known(value) else None
    if not isinstance(value, str):
        return value
    text = printable(value, keep="")
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
