"""Cost against quality: an arrow from the baseline's mean to each arm's, every seed a dot."""

from __future__ import annotations

from statistics import fmean

from markupsafe import Markup

from pipelines.report import format as fmt
from pipelines.report.data import ReportData, RunLink
from pipelines.report.figures import svg

WIDTH, HEIGHT = 298, 236
LEFT, RIGHT, TOP, BOTTOM = 46, 284, 28, 190


def draw(facts: ReportData, cell: str) -> Markup:
    """Draw the panel of a cell; empty where no run recorded its time."""
    known = {arm: _points(facts, cell, arm) for arm in facts.arms}
    known = {arm: points for arm, points in known.items() if points}
    drawn = [point[:2] for points in known.values() for point in points]
    if len(known) < 2:
        return Markup()
    xs = svg.Scale(*svg.padded([x for x, _ in drawn], 0.12), LEFT, RIGHT)
    ys = svg.Scale(*svg.padded([y for _, y in drawn], 0.12), BOTTOM, TOP)
    row = next(row for row in facts.rows if row.cell == cell)
    body = _frame(xs, ys, f"{cell} · {row.metric}")
    centres = {
        arm: (fmean(x for x, _, _ in points), fmean(y for _, y, _ in points)) for arm, points in known.items()
    }
    start = centres.get(facts.baseline)
    for arm, points in known.items():
        body += _seeds(facts, arm, points, xs, ys)
    for arm, (x, y) in centres.items():
        body += _centre(facts, arm, (xs(x), ys(y)), (xs(start[0]), ys(start[1])) if start else None)
    description = "; ".join(f"{arm}: {x:.3g} ms a step, {fmt.number(y)}" for arm, (x, y) in centres.items())
    return svg.figure(WIDTH, HEIGHT, f"Cost and {row.metric} on {cell}", description, body)


def _points(facts: ReportData, cell: str, arm: str) -> list[tuple[float, float, RunLink]]:
    """Return (milliseconds per step, score, run) of the finished runs."""
    return [
        (1000 * seconds, run.score, run)
        for run in facts.runs_of(cell, arm)
        if (seconds := run.step_seconds) is not None and fmt.known(run.score)
    ]


def _seeds(
    facts: ReportData, arm: str, points: list[tuple[float, float, RunLink]], xs: svg.Scale, ys: svg.Scale
) -> str:
    dots = ""
    for x, y, run in points:
        dot = svg.tag("circle", cx=float(xs(x)), cy=float(ys(y)), r=2.4, class_="dot")
        dots += svg.link(run.href, dot, f"{arm}, seed {run.seed}: {x:.3g} ms, {fmt.number(y)}")
    return svg.tag("g", dots, class_=svg.colour(facts.place(arm)))


def _centre(facts: ReportData, arm: str, at: tuple[float, float], start: tuple[float, float] | None) -> str:
    body = svg.path([start, at], "thin") if start and arm != facts.baseline else ""
    return svg.tag("g", body or " ", class_=svg.colour(facts.place(arm))) + svg.mark(
        *at, facts.place(arm), size=5.5, content=svg.hover(f"{arm}, mean")
    )


def _frame(xs: svg.Scale, ys: svg.Scale, name: str) -> str:
    body = svg.text(0, 13, svg.shorten(name, WIDTH, 14), None, "strong")
    for tick in ys.ticks(4):
        body += svg.line(LEFT, ys(tick), RIGHT, ys(tick), "hair")
        body += svg.tick_beside(LEFT - 6, ys(tick) + 4, tick)
    for tick in xs.ticks(4):
        body += svg.line(xs(tick), BOTTOM, xs(tick), BOTTOM + 4, "axis")
        body += svg.tick(xs(tick), BOTTOM + 17, tick, WIDTH)
    body += svg.line(LEFT, BOTTOM, RIGHT, BOTTOM, "axis")
    return body + svg.text(RIGHT, HEIGHT - 8, "milliseconds per training step", "end", "soft tiny")
