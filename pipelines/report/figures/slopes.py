"""Paired slopes: a line from the baseline to the arm for every seed, their mean thick."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from markupsafe import Markup

from pipelines.report import format as fmt
from pipelines.report.data import ReportData, Row
from pipelines.report.figures import svg

WIDTH, HEIGHT = 126, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 112, 30, 158


def draw(facts: ReportData, rows: Sequence[Row]) -> list[Markup]:
    """Draw one panel per arm of a cell, all on the same axis."""
    scores = [x for row in rows for pair in _pairs(row) for x in pair[1:]]
    if not scores:
        return []
    scale = svg.Scale(*svg.padded(scores), BOTTOM, TOP)
    return [_panel(facts, row, scale) for row in rows if _pairs(row)]


def _pairs(row: Row) -> list[tuple[int, float, float]]:
    """Return (seed, baseline score, arm score) of the seeds that have both."""
    known = zip(row.seeds, row.baseline_scores, row.arm_scores)
    return [(seed, a, b) for seed, a, b in known if fmt.known(a) and fmt.known(b)]


def _panel(facts: ReportData, row: Row, scale: svg.Scale) -> Markup:
    place, pairs = facts.place(row.arm), _pairs(row)
    name = svg.escape(svg.shorten(row.arm, WIDTH, 15)) + svg.hover(row.arm)
    body = svg.tag("text", name, x=0, y=13, class_="strong")
    for tick in scale.ticks(3):
        body += svg.line(LEFT, scale(tick), RIGHT, scale(tick), "hair")
        body += svg.tick_beside(LEFT - 10, scale(tick) + 4, tick)
    body += svg.text(LEFT, BOTTOM + 18, svg.shorten(facts.baseline, 60, 11), "middle", "soft tiny")
    body += svg.text(RIGHT, BOTTOM + 18, "arm", "middle", "soft tiny")
    hrefs = {run.seed: run.href for run in row.arm_runs}
    body += "".join(_seed(seed, a, b, place, scale, hrefs.get(seed)) for seed, a, b in pairs)
    middle = [fmean(pair[side] for pair in pairs) for side in (1, 2)]
    points = [(LEFT, scale(middle[0])), (RIGHT, scale(middle[1]))]
    body += svg.tag("g", svg.path(points, "thick"), class_=svg.colour(place))
    body += svg.mark(*points[0], 0, size=4) + svg.mark(*points[1], place, size=4.5)
    description = "; ".join(
        f"seed {s}: {fmt.number(a, row.places)} to {fmt.number(b, row.places)}" for s, a, b in pairs
    )
    return svg.figure(WIDTH, HEIGHT, f"{row.arm} on {row.cell}, seed by seed", description, body)


def _seed(seed: int, a: float, b: float, place: int, scale: svg.Scale, href: str | None) -> str:
    drawn = svg.path([(LEFT, scale(a)), (RIGHT, scale(b))], "thin")
    drawn += "".join(
        svg.tag("circle", cx=x, cy=scale(y), r=2.4, class_="dot") for x, y in ((LEFT, a), (RIGHT, b))
    )
    drawn = svg.link(href, drawn, f"seed {seed}") if href else drawn
    return svg.tag("g", drawn, class_=svg.colour(place))
