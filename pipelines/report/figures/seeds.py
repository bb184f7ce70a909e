"""Every seed's difference, with the interval for these examples and the wider one for new examples."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from markupsafe import Markup

from pipelines.report import format as fmt
from pipelines.report.data import ReportData, Row
from pipelines.report.figures import svg

WIDTH, ROW, TOP, FOOT = 330, 46, 4, 46
LEFT, RIGHT = 8, 322


def draw(facts: ReportData, rows: Sequence[Row]) -> Markup:
    """Draw a strip per arm of a cell on one axis; empty without differences."""
    rows = [row for row in rows if any(map(fmt.known, row.by_seed))]
    if not rows:
        return Markup()
    scale = svg.Scale(*svg.domain([_reach(row) for row in rows]), LEFT, RIGHT)
    bottom = TOP + ROW * len(rows)
    body = "".join(_strip(facts, row, scale, TOP + ROW * place) for place, row in enumerate(rows))
    body += _axis(scale, bottom)
    title = f"Differences of every seed on {rows[0].cell}"
    return svg.figure(WIDTH, bottom + FOOT, title, "; ".join(map(_describe, rows)), body)


def seeds_interval(differences: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % t interval over seeds alone, valid for these examples only. None for one seed."""
    if len(differences) < 2:
        return None
    from scipy.special import stdtrit  # kept out of reports that draw no strip

    half = (
        float(stdtrit(len(differences) - 1, 0.975))
        * statistics.stdev(differences)
        / math.sqrt(len(differences))
    )
    middle = statistics.fmean(differences)
    return middle - half, middle + half


def _known(row: Row) -> list[float]:
    return fmt.finite(row.by_seed)


def _reach(row: Row) -> list[float]:
    margin = [row.margin, -row.margin] if fmt.known(row.margin) else []
    return [*_known(row), *fmt.finite(row.ci95 or ()), *margin]


def _describe(row: Row) -> str:
    values = ", ".join(fmt.signed(value, row.places) for value in row.by_seed)
    return f"{row.arm}: {values}"


def _strip(facts: ReportData, row: Row, scale: svg.Scale, y: float) -> str:
    place = facts.place(row.arm)
    name = svg.escape(svg.shorten(row.arm, WIDTH - 30, 14)) + svg.hover(row.arm)
    label = svg.mark(12, y + 11, place, size=4) + svg.tag("text", name, x=22, y=float(y + 15))
    narrow, wide, body = seeds_interval(_known(row)), fmt.bounds(row.ci95), ""
    label += svg.backdrop(scale, row.margin, y + 20, y + 43)  # not behind the name
    if wide:
        body += _bar(wide, scale, y + 39, "reach")
    if narrow:
        body += _bar(narrow, scale, y + 39, "bar slim")
    hrefs = {run.seed: run.href for run in row.arm_runs}
    for seed, value in zip(row.seeds, row.by_seed):
        if fmt.known(value):
            body += _dot(seed, value, scale, y + 28, hrefs.get(seed), row.places)
    return label + svg.tag("g", body or " ", class_=svg.colour(place))


def _bar(bounds: Sequence[float], scale: svg.Scale, y: float, class_: str) -> str:
    ends = [scale.clamp(bound) for bound in bounds]
    return svg.line(ends[0], y, ends[1], y, class_)


def _dot(seed: int, value: float, scale: svg.Scale, y: float, href: str | None, places: int) -> str:
    if scale.inside(value):
        drawn = svg.tag("circle", cx=float(scale(value)), cy=float(y), r=4, class_="dot")
    else:
        drawn = svg.arrow(scale.clamp(value), y, value < scale.low)
    label = f"seed {seed}: {fmt.signed(value, places)}"
    return svg.link(href, drawn, label) if href else svg.tag("g", svg.hover(label) + drawn)


def _axis(scale: svg.Scale, y: float) -> str:
    body = svg.line(LEFT, y, RIGHT, y, "axis")
    for tick in scale.ticks(5):
        body += svg.line(scale(tick), y, scale(tick), y + 4, "axis")
        body += svg.tick(scale(tick), y + 17, tick, WIDTH)
    body += svg.text(LEFT, y + 36, "← baseline better", None, "soft tiny")
    return body + svg.text(RIGHT, y + 36, "arm better →", "end", "soft tiny")
