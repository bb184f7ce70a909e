"""The resampled differences of each comparison, a visual check of its interval."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from pipelines.comparison.significance import Bootstrap
from pipelines.report import format as fmt
from pipelines.report.data import ReportData, Row
from pipelines.report.figures import svg

WIDTH, HEIGHT = 126, 96
LEFT, RIGHT, TOP, BOTTOM = 4, 122, 26, 72


def draw(facts: ReportData, rows: Sequence[Row]) -> list[Markup]:
    """Draw a histogram per arm of a cell, all on the same axis."""
    drawn = [(row, row.bootstrap) for row in rows if row.bootstrap is not None]
    edges = [edge for _, bootstrap in drawn for edge in (bootstrap.edges[0], bootstrap.edges[-1])]
    if not drawn:
        return []
    scale = svg.Scale(*svg.padded([*edges, 0.0]), LEFT, RIGHT)
    return [_panel(facts, row, bootstrap, scale) for row, bootstrap in drawn]


def _panel(facts: ReportData, row: Row, bootstrap: Bootstrap, scale: svg.Scale) -> Markup:
    counts, edges = bootstrap.counts, bootstrap.edges
    heights = svg.Scale(0, max(counts), BOTTOM, TOP)
    corners: list[tuple[float, float]] = [(scale(edges[0]), BOTTOM)]
    for count, left, right in zip(counts, edges, edges[1:]):
        corners += [(scale(left), heights(count)), (scale(right), heights(count))]
    corners.append((scale(edges[-1]), BOTTOM))
    name = svg.escape(svg.shorten(row.arm, WIDTH, 15)) + svg.hover(row.arm)
    body = svg.tag("text", name, x=0, y=13, class_="strong")
    body += svg.tag("g", svg.path(corners, "hill"), class_=svg.colour(facts.place(row.arm)))
    body += svg.line(scale(0), TOP - 4, scale(0), BOTTOM, "zero") + svg.line(
        LEFT, BOTTOM, RIGHT, BOTTOM, "axis"
    )
    for tick in scale.ticks(3):
        body += svg.tick(scale(tick), BOTTOM + 16, tick, WIDTH)
    description = f"95 % of the resamples lie in {fmt.interval(bootstrap.interval95, row.places)}."
    return svg.figure(WIDTH, HEIGHT, f"Resampled differences of {row.arm} on {row.cell}", description, body)
