"""The intervals of a sequential design, seed by seed: what each look saw, and what the next could change."""

from __future__ import annotations

from markupsafe import Markup

from pipelines.comparison.results import SeedLook
from pipelines.report import format as fmt
from pipelines.report.data import ReportData, Row
from pipelines.report.figures import svg

WIDTH, HEIGHT = 330, 200
LEFT, RIGHT, TOP, BOTTOM = 46, 318, 30, 158


def draw(facts: ReportData, row: Row) -> Markup:
    """Draw the interval of every look, from few seeds to many; empty in a fixed design."""
    seen = [(look, ends) for look in row.looks or () if (ends := fmt.bounds(look.interval))]
    if not seen:
        return Markup()
    margin = [row.margin, -row.margin] if fmt.known(row.margin) else []
    last = seen[-1][1]
    scale = svg.Scale(*svg.padded([0.0, *margin, *last, *(look.difference for look, _ in seen)]), BOTTOM, TOP)
    step = (RIGHT - LEFT) / max(1, len(seen))
    body = svg.text(0, 13, svg.shorten(row.arm, WIDTH, 15), None, "strong")
    for tick in scale.ticks(4):
        body += svg.line(LEFT, scale(tick), RIGHT, scale(tick), "hair")
        body += svg.tick_beside(LEFT - 6, scale(tick) + 4, tick)
    body += svg.line(LEFT, scale(0), RIGHT, scale(0), "axis")
    for edge in margin:
        body += svg.line(LEFT, scale.clamp(edge), RIGHT, scale.clamp(edge), "mde")
    for place, (look, ends) in enumerate(seen):
        body += _look(facts, row, look, ends, LEFT + step * (place + 0.5), scale)
    every = 1 + len(seen) // 10
    for place, (look, _) in enumerate(seen):
        if place % every == 0:
            body += svg.text(LEFT + step * (place + 0.5), BOTTOM + 18, str(look.seeds), "middle", "soft tiny")
    body += svg.text(RIGHT, BOTTOM + 36, "seeds →", "end", "soft tiny")
    title = f"{row.arm} on {row.cell}: interval after each seed"
    told = "; ".join(f"{look.seeds} seeds: {fmt.interval(ends, row.places)}" for look, ends in seen)
    return svg.figure(WIDTH, HEIGHT, title, told, body)


def _look(
    facts: ReportData, row: Row, look: SeedLook, ends: tuple[float, float], x: float, scale: svg.Scale
) -> str:
    """Return a bar from end to end, cut at the frame, and the estimate."""
    place = facts.place(row.arm)
    bar = svg.line(x, scale.clamp(ends[0]), x, scale.clamp(ends[1]), "bar slim")
    numbers = f"{fmt.signed(look.difference, row.places)} {fmt.interval(ends, row.places)}"
    label = svg.hover(f"{look.seeds} seeds: {numbers}")
    settled = not ends[0] <= 0 <= ends[1]
    return svg.tag("g", bar, class_=svg.colour(place)) + svg.mark(
        x, scale.clamp(look.difference), place, settled, 4, label
    )
