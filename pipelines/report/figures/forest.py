"""The forest plot: every primary difference with its interval, the margin and the detectable difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pipelines.report import format as fmt
from pipelines.report.data import ReportData, Row
from pipelines.report.figures import palette, svg


@dataclass(frozen=True)
class PlotLayout:
    """Positions in the plot. A stacked row has the names above its interval, for narrow pages."""

    width: float
    left: float
    right: float
    row: float
    stacked: bool


WIDE = PlotLayout(width=940, left=212, right=608, row=30, stacked=False)
NARROW = PlotLayout(width=350, left=10, right=340, row=56, stacked=True)
HEAD, FOOT, GAP = 34, 52, 12


def draw(facts: ReportData, layout: PlotLayout = WIDE, rows: Sequence[Row] | None = None) -> Markup:
    """Draw one panel per metric, each with its own axis, because margins and units belong to a metric."""
    rows = facts.primary if rows is None else list(rows)
    body, top = "", 0.0
    for metric in dict.fromkeys(row.metric for row in rows):
        panel = [row for row in rows if row.metric == metric]
        drawn, height = _panel(facts, panel, layout, top)
        body, top = body + drawn, top + height + GAP
    return svg.figure(
        layout.width,
        max(top - GAP, 1),
        "Differences to the baseline",
        _describe(rows),
        body,
        class_="forest stacked" if layout.stacked else "forest wide",
    )


def standalone(facts: ReportData) -> str:
    """Draw the wide plot as a file of its own."""
    return palette.standalone(draw(facts))


def _describe(rows: Sequence[Row]) -> str:
    return " ".join(
        f"{row.cell}, {row.metric}, {row.arm}: {fmt.signed(row.difference, row.places)} "
        f"{fmt.interval(row.ci95, row.places)}, {row.verdict}."
        for row in rows
    )


def _reach(row: Row) -> list[float]:
    """Return the values of a row that its axis should show."""
    both = fmt.finite((row.mde80, row.margin))
    return [*fmt.finite((row.difference, *(row.ci95 or ()))), *both, *(-x for x in both)]


def _panel(facts: ReportData, rows: Sequence[Row], layout: PlotLayout, top: float) -> tuple[str, float]:
    """Return the drawing of one metric, and its height."""
    scale = svg.Scale(*svg.domain([_reach(row) for row in rows]), layout.left, layout.right)
    cells = list(dict.fromkeys(row.cell for row in rows))
    body, y = "", top
    for cell in cells:
        mine = [row for row in rows if row.cell == cell]
        body += _heading(mine[0], y, layout)
        y += HEAD
        if not layout.stacked:
            body += svg.backdrop(scale, mine[0].margin, y, y + layout.row * len(mine))
        for row in mine:
            body += _row(facts, row, scale, y, layout)
            y += layout.row
    return body + _axis(scale, rows[0], y, layout), y - top + FOOT


def _heading(row: Row, y: float, layout: PlotLayout) -> str:
    """Return the cell's name, with a thin line under it that separates the groups."""
    base = y + 22
    note = f"{row.metric} · {fmt.plural(len(row.seeds), 'seed')} · n = {fmt.count(row.n_examples)}"
    room = layout.width - 185 if layout.stacked else 420
    name = svg.tag(
        "text",
        svg.escape(svg.shorten(row.cell, room)) + svg.hover(row.cell),
        x=0,
        y=float(base),
        class_="strong",
    )
    rule = svg.line(0, y + HEAD - 3, layout.width, y + HEAD - 3, "hair")
    return name + svg.text(layout.width, base, note, "end", "soft tiny") + rule


def _row(facts: ReportData, row: Row, scale: svg.Scale, y: float, layout: PlotLayout) -> str:
    place = facts.place(row.arm)
    value = fmt.signed(row.difference, row.places)
    interval = fmt.interval(row.ci95, row.places)
    if layout.stacked:
        label, middle = y + 15, y + 30
        words = _name(row, 20, label, 170) + svg.text(layout.width, label, _word(row), "end")
        words += svg.text(layout.width, y + 51, _value(row), "end", "soft tiny")
        words += svg.mark(7, label - 4, place) + svg.backdrop(scale, row.margin, y + 21, y + 39)
    else:
        middle = y + layout.row / 2
        words = _name(row, 20, middle + 4, layout.left - 30) + svg.mark(7, middle, place)
        if fmt.known(row.difference):
            words += svg.text(layout.right + 68, middle + 4, value, "end", "strong")
            words += svg.text(layout.right + 76, middle + 4, interval, None, "soft")
        words += _verdict(row, 790 if row.is_changed else 808, middle + 4)
    return words + _interval(row, place, scale, middle)


def _value(row: Row) -> str:
    if not fmt.known(row.difference):
        return ""
    return f"{fmt.signed(row.difference, row.places)} {fmt.interval(row.ci95, row.places)}"


def _name(row: Row, x: float, y: float, room: float) -> str:
    return svg.tag(
        "text", svg.escape(svg.shorten(row.arm, room)) + svg.hover(row.arm), x=float(x), y=float(y)
    )


def _verdict(row: Row, x: float, y: float) -> str:
    return svg.tag("text", svg.escape(_word(row)) + svg.hover(row.verdict), x=float(x), y=float(y))


def _word(row: Row) -> str:
    """Return the first word, as the plot itself shows the margin, and whether it has changed."""
    return f"{row.glyph} {row.word}{', changed' if row.is_changed else ''}"


def _interval(row: Row, place: int, scale: svg.Scale, y: float) -> str:
    """Return interval, MDE ticks and estimate; a bar that leaves the axis ends in an arrow head."""
    if not fmt.known(row.difference):
        return svg.text(scale(0) + 8, y + 4, "no estimate", None, "soft tiny")
    body = ""
    if fmt.known(row.mde80):
        ticks = [edge for edge in (-row.mde80, row.mde80) if scale.inside(edge)]
        body += svg.line(scale.clamp(-row.mde80), y, scale.clamp(row.mde80), y, "reach")
        body += "".join(svg.line(scale(edge), y - 4, scale(edge), y + 4, "mde") for edge in ticks)
    bounds = fmt.bounds(row.ci95) or (row.difference, row.difference)
    ends = [scale.clamp(bound) for bound in bounds]
    bar = svg.line(ends[0], y, ends[1], y, "bar")
    tips = [
        svg.arrow(end, y, bound < scale.low) for end, bound in zip(ends, bounds) if not scale.inside(bound)
    ]
    body += svg.tag("g", bar + "".join(dict.fromkeys(tips)), class_=svg.colour(place))
    if scale.inside(row.difference):
        words = f"{row.arm}: {fmt.signed(row.difference, row.places)} {fmt.interval(row.ci95, row.places)}"
        body += svg.mark(scale(row.difference), y, place, row.settled, content=svg.hover(words))
    return body


def _axis(scale: svg.Scale, row: Row, y: float, layout: PlotLayout) -> str:
    body = svg.line(layout.left, y + 4, layout.right, y + 4, "axis")
    for tick in scale.ticks(5 if layout.stacked else 7):
        body += svg.line(scale(tick), y + 4, scale(tick), y + 8, "axis")
        body += svg.text(scale(tick), y + 21, svg.tick_label(tick), "middle", "soft tiny")
    left = svg.text(layout.left, y + 40, f"← {svg.shorten(row.baseline, 90)} better", None, "soft tiny")
    right = svg.text(layout.right, y + 40, "arm better →", "end", "soft tiny")
    return body + left + right
