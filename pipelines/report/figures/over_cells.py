"""The forest plot of means over cells, in margins, with what a new cell would show."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from pipelines.report import format as fmt
from pipelines.report.data import ReportData
from pipelines.report.figures import svg
from pipelines.report.over_cells import Line, lines

WIDTH, LEFT, RIGHT = 940, 260, 640
HEAD, ROW, FOOT = 30, 28, 46


def draw(facts: ReportData) -> Markup:
    """Draw the mean of every arm over all cells, and over each group of them; empty without a summary."""
    drawn = lines(facts)
    if not drawn:
        return Markup()
    scale = svg.Scale(*svg.domain([[*one.interval, *one.prediction, -1, 1] for one in drawn]), LEFT, RIGHT)
    body, y = "", 0.0
    for arm in dict.fromkeys(one.arm for one in drawn):
        mine = [one for one in drawn if one.arm == arm]
        body += _heading(arm, y) + svg.backdrop(scale, 1.0, y + HEAD, y + HEAD + ROW * len(mine))
        y += HEAD
        for one in mine:
            body += _row(one, facts.place(arm), scale, y + ROW / 2)
            y += ROW
    body += _axis(facts, scale, y)
    return svg.figure(WIDTH, y + FOOT, "Means over cells, in margins", _told(drawn), body, class_="forest")


def _told(drawn: Sequence[Line]) -> str:
    return " ".join(f"{one.arm}, {one.name}: {one.numbers}, a new cell {one.ahead}." for one in drawn)


def _heading(arm: str, y: float) -> str:
    rule = svg.line(0, y + HEAD - 3, WIDTH, y + HEAD - 3, "hair")
    labels = svg.text(RIGHT + 76, y + 20, "mean, 95 %", None, "soft tiny")
    labels += svg.text(WIDTH, y + 20, "a new cell", "end", "soft tiny")
    return svg.text(0, y + 20, svg.shorten(arm, LEFT), None, "strong") + labels + rule


def _row(one: Line, place: int, scale: svg.Scale, y: float) -> str:
    """Return name, both intervals and mean; one that leaves the axis ends in an arrow head."""
    weight = "soft" if one.group else "strong"
    name = f"{svg.shorten(one.name, LEFT - 70)} ({fmt.plural(one.cells, 'cell')})"
    body = svg.text(20, y + 4, name, None, weight)
    ends = [scale.clamp(end) for end in one.prediction]
    body += svg.line(ends[0], y, ends[1], y, "reach")
    bar = svg.line(scale.clamp(one.interval[0]), y, scale.clamp(one.interval[1]), y, "bar")
    tips = [
        svg.arrow(end, y, to < scale.low) for end, to in zip(ends, one.prediction) if not scale.inside(to)
    ]
    body += svg.tag("g", bar + "".join(dict.fromkeys(tips)), class_=svg.colour(place))
    excludes = not one.interval[0] <= 0 <= one.interval[1]
    body += svg.mark(
        scale.clamp(one.mean), y, place, excludes, content=svg.hover(f"{one.name}: {one.numbers}")
    )
    body += svg.text(RIGHT + 68, y + 4, fmt.signed(one.mean, 2), "end", "strong")
    body += svg.text(RIGHT + 76, y + 4, fmt.interval(one.interval, 2), None, "soft")
    return body + svg.text(WIDTH, y + 4, one.ahead, "end", "soft")


def _axis(facts: ReportData, scale: svg.Scale, y: float) -> str:
    body = svg.line(LEFT, y + 4, RIGHT, y + 4, "axis")
    for tick in scale.ticks(7):
        body += svg.line(scale(tick), y + 4, scale(tick), y + 8, "axis")
        body += svg.text(scale(tick), y + 21, svg.tick_label(tick), "middle", "soft tiny")
    left = svg.text(LEFT, y + 38, f"← {svg.shorten(facts.baseline, 90)} better", None, "soft tiny")
    return body + left + svg.text(RIGHT, y + 38, "arm better, in margins →", "end", "soft tiny")
