"""report.tex: the table of comparisons, which needs the package booktabs only."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment

from pipelines.report import headline, over_cells, sentences, settling, tables, templating
from pipelines.report.data import ReportData
from pipelines.report.rows import headers, notes


def render(facts: ReportData) -> str:
    """Return a `table*` with notes under it; primary rows first, exploratory ones marked after them."""
    both = [tables.comparisons(facts, primary) for primary in (True, False)]
    explanations = [
        f"{row.arm} on {row.cell}: {text}." for row in facts.primary if (text := settling.note(facts, row))
    ]
    signatures = dict.fromkeys(f"{row.metric}: {row.signature}." for row in facts.rows if row.signature)
    return (
        _environment()
        .get_template("report.tex")
        .render(
            facts=facts,
            headline=headline.sentence(facts),
            introduction=sentences.introduction(facts),
            names=headers(facts),
            tables=[table for table in both if table is not None],
            notes=[*notes(facts), *explanations, *_over_cells(facts), *signatures],
        )
    )


def _over_cells(facts: ReportData) -> list[str]:
    return [f"{one.arm}.{over_cells.sentence(facts, one.arm)}" for one in facts.results.summaries or ()]


@cache
def _environment() -> Environment:
    return templating.latex()
