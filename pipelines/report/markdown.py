"""report.md: the same content for places that show no HTML, such as a pull request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment

from pipelines.report import attention, headline, over_cells, recipe, sentences, tables, templating
from pipelines.report import format as fmt
from pipelines.report.data import ReportData, RunLink
from pipelines.report.rows import notes


@dataclass(frozen=True)
class AttentionLine:
    """Attention of an arm in a cell: means over seeds, sites and heads of the page's heat maps."""

    cell: str
    arm: str
    entropy: float | None
    first_token: float | None
    learned: str


def render(facts: ReportData) -> str:
    """Return the whole file; it shows `forest.svg`, which is written beside it."""
    return (
        _environment()
        .get_template("report.md")
        .render(
            facts=facts,
            headline=headline.sentence(facts),
            arms=recipe.arms(facts),
            yaml=recipe.arms_yaml(facts),
            cells=[(cell, recipe.terms(facts, cell)) for cell in facts.cells],
            introduction=sentences.introduction(facts),
            verdicts=[(arm, sentences.arm(facts, arm)) for arm in facts.arms[1:]],
            means=over_cells.lines(facts),
            caption=over_cells.CAPTION,
            primary=tables.comparisons(facts, primary=True),
            exploratory=tables.comparisons(facts, primary=False),
            notes=notes(facts),
            alerts=sentences.alerts(facts),
            attention=list(_attention(facts)),
            methods=sentences.methods(facts),
            registration=sentences.registration(facts),
            runs=list(_runs(facts)),
        )
    )


@cache
def _environment() -> Environment:
    return templating.markdown()


def _attention(facts: ReportData) -> Iterator[AttentionLine]:
    for cell in facts.cells:
        for arm, stats in attention.of_cell(facts, cell).items():
            entropy, first_token = (
                attention.overall(stats.mean(name)) for name in (attention.ENTROPY, attention.SINK)
            )
            learned = "; ".join(f"{name} {_spread(stats, name)}" for name in stats.own)
            yield AttentionLine(cell, arm, entropy, first_token, learned)


def _spread(stats: attention.AttentionStats, quantity: str) -> str:
    mean = attention.overall(stats.mean(quantity))
    return f"{fmt.signed(mean, 3)} {fmt.interval(stats.reach(quantity), 3)}"


def _runs(facts: ReportData) -> Iterator[tuple[str, str, list[RunLink]]]:
    """Yield the runs of every cell and arm by seed."""
    for cell in facts.cells:
        for arm in facts.arms:
            runs = sorted(facts.runs_of(cell, arm), key=lambda run: run.seed)
            if runs:
                yield cell, arm, runs
