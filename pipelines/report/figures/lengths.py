"""The difference by length of the examples: a change of attention may matter more for long ones."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from markupsafe import Markup

from pipelines.report import format as fmt
from pipelines.report.data import ReportData
from pipelines.report.examples import Breakdown
from pipelines.report.figures import svg

WIDTH, HEIGHT = 440, 246
LEFT, RIGHT, TOP, BOTTOM = 46, 432, 30, 186


def draw(facts: ReportData, breakdowns: Sequence[Breakdown]) -> Markup:
    """Draw the arms of a cell side by side in each bin of length; empty where lengths are not known."""
    known = [one for one in breakdowns if len(one.bins) > 1]
    if not known:
        return Markup()
    values = [difference for one in known for bin_ in one.bins for difference in bin_.differences]
    scale = svg.Scale(*svg.padded([0.0, *values]), BOTTOM, TOP)
    body = "".join(
        svg.line(LEFT, scale(tick), RIGHT, scale(tick), "zero" if abs(tick) < 1e-12 else "hair")
        + svg.tick_beside(LEFT - 6, scale(tick) + 4, tick)
        for tick in scale.ticks(4)
    )
    row = known[0].row
    name = f"{row.cell} · {row.metric}, difference by length"
    body += svg.text(0, 13, svg.shorten(name, WIDTH, 14), None, "strong")
    bins = known[0].bins
    step = (RIGHT - LEFT) / len(bins)
    for place, bin_ in enumerate(bins):
        centre = LEFT + step * (place + 0.5)
        name = str(bin_.shortest) if bin_.shortest == bin_.longest else f"{bin_.shortest}–{bin_.longest}"
        body += svg.text(centre, BOTTOM + 18, name, "middle", "tiny")
        body += svg.text(centre, BOTTOM + 33, f"n = {fmt.count(bin_.num_examples)}", "middle", "soft tiny")
        body += _bin(facts, known, place, centre, step, scale)
    body += svg.text(RIGHT, HEIGHT - 8, "words", "end", "soft tiny")
    return svg.figure(WIDTH, HEIGHT, f"Differences by length on {row.cell}", _describe(known), body)


def _bin(
    facts: ReportData, known: Sequence[Breakdown], place: int, centre: float, step: float, scale: svg.Scale
) -> str:
    gap = min(22.0, 0.8 * step / len(known))
    body = ""
    for order, one in enumerate(known):
        if place >= len(one.bins):
            continue
        x = centre + gap * (order - (len(known) - 1) / 2)
        differences = one.bins[place].differences
        dots = "".join(svg.tag("circle", cx=x, cy=scale.clamp(d), r=2, class_="dot") for d in differences)
        arm = facts.place(one.row.arm)
        middle = fmean(differences)
        words = f"{one.row.arm}: {fmt.signed(middle, one.row.places)}"
        size = min(5.0, max(2.6, gap / 3))
        body += svg.tag("g", dots, class_=svg.colour(arm))
        body += svg.mark(x, scale.clamp(middle), arm, size=size, content=svg.hover(words))
    return body


def _describe(known: Sequence[Breakdown]) -> str:
    return " ".join(
        f"{one.row.arm}, {bin_.shortest} to {bin_.longest} words: "
        f"{fmt.signed(fmean(bin_.differences), one.row.places)}."
        for one in known
        for bin_ in one.bins
    )
