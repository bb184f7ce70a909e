"""The summaries over cells as words: each arm over all of its cells, and group by group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.comparison.summary import MIN_BEYOND, Summary
from pipelines.report import format as fmt
from pipelines.report.data import ReportData

PLACES = 2  # decimals of numbers in margins
CAPTION = (
    "Means over cells, in margins: random effects by Paule and Mandel, 95 % intervals by Hartung and Knapp, "
    "and 95 % prediction intervals for a new cell of this kind"
)


@dataclass(frozen=True)
class Line:
    """One mean over cells: of all cells of an arm, or of a group of them."""

    arm: str
    group: str  # empty: all cells
    cells: int
    mean: float
    interval: tuple[float, float]
    prediction: tuple[float, float]

    @property
    def name(self) -> str:
        """The cells that it is about."""
        return self.group or "all cells"

    @property
    def numbers(self) -> str:
        return f"{fmt.signed(self.mean, PLACES)} {fmt.interval(self.interval, PLACES)}"

    @property
    def ahead(self) -> str:
        return fmt.interval(self.prediction, PLACES)


def lines(facts: ReportData) -> list[Line]:
    """Return the means of every arm: its groups, then all cells."""
    return [line for one in facts.results.summaries or () for line in _lines(one)]


def _lines(one: Summary) -> Iterator[Line]:
    for group in one.groups:
        yield Line(one.arm, group.name, group.cells, group.mean, group.interval, group.prediction)
    yield Line(one.arm, "", one.cells, one.mean, one.interval, one.prediction)


def sentence(facts: ReportData, name: str) -> str:
    """Return the summary of an arm over its cells, as sentences after a space; empty where there is none."""
    found = next((one for one in facts.results.summaries or () if one.arm == name), None)
    if found is None:
        return ""
    [*_, line] = _lines(found)
    return (
        f" Over {found.cells} cells, in margins: {line.numbers}; in a new cell of this kind {line.ahead}; "
        f"heterogeneity {100 * found.heterogeneity:.0f} %.{_groups(found)}"
    )


def _groups(found: Summary) -> str:
    """Return the means of the groups, and whether they are told apart."""
    if found.by is None:
        return ""
    if found.p_groups is None:
        return f" By {found.by}: a comparison needs two groups, and {MIN_BEYOND} cells more than groups."
    told = [
        f"{line.group} {line.numbers} in {fmt.plural(line.cells, 'cell')}"
        for line in _lines(found)
        if line.group
    ]
    return f" By {found.by}: {fmt.listing(told)}; one mean for all groups: p {fmt.p_value(found.p_groups)}."
