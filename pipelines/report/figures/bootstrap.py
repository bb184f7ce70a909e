"""The resampled differences of each comparison: a check of the interval that the eye can make."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.report import format as fmt
from pipelines.report.data import ReportData, Row
from pipelines.report.figures import svg

WIDTH, HEIGHT = 126, 96
LEFT, RIGHT, TOP, BOTTOM = 4, 122, 26, 72


def draw(facts: ReportData, rows: Sequence[Row]) -> list[str]:
    """A histogram per arm of a cell, all on the same axis."""
    known = [row for row in rows if (row.bootstrap or {}).get("counts")]
    edges = [edge for row in known for edge in (row.bootstrap["edges"][0], row.bootstrap["edges"][-1], 0.0)]
    if not known or not all(map(fmt.known, edges)):
        return []
    scale = svg.Scale(*svg.padded(edges), LEFT, RIGHT)
    return [_panel(facts, row, scale) for row in known]


def _panel(facts: ReportData, row: Row, scale: svg.Scale) -> str:
    counts, edges = row.bootstrap["counts"], row.bootstrap["edges"]
    heights = svg.Scale(0, max(counts), BOTTOM, TOP)
    corners = [(scale(edges[0]), BOTTOM)]
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
    found = row.bootstrap.get("interval95")
    told = f"95 % of the resamples lie in {fmt.interval(found, row.places)}."
    return svg.figure(WIDTH, HEIGHT, f"Resampled differences of {row.arm} on {row.cell}", told, body)
