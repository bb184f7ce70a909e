"""Learning curves: training loss, validation score and its paired difference; seeds thin, means thick."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise

from markupsafe import Markup

from pipelines.report import format as fmt
from pipelines.report.data import ReportData, RunLink
from pipelines.report.figures import svg
from pipelines.storage.names import METRICS_LOG
from pipelines.storage.run_folder import read_log

WIDTH, HEIGHT = 298, 226
LEFT, RIGHT, TOP, BOTTOM = 42, 284, 26, 186
POINT_BUDGET = 40_000  # points of a whole report: what keeps a thousand runs under 5 MB
MOST_ARMS = 12  # of which every seed is drawn; of more, the mean alone
Curve = list[tuple[float, float]]


def read(run: RunLink, metric: str) -> tuple[Curve, Curve]:
    """Return (step, training loss) and (step, validation score) of a run, in the order of steps."""
    losses: dict[int, float] = {}
    scores: dict[int, float] = {}
    for event in read_log(run.folder / METRICS_LOG):
        step = event["step"]
        if event.get("event") == "step" and "loss" in event:
            losses[step] = float(event["loss"])  # a loss that is not finite is logged as text
        elif event.get("split") == "validation" and fmt.known(event.get(metric)):
            scores[step] = event[metric]
    return sorted(losses.items()), sorted(scores.items())


def thin(curve: Curve, points: int) -> Curve:
    """Return means over about `points` equal stretches; a value that is not finite ends the curve."""
    finite = []
    for step, value in curve:
        if not math.isfinite(value):
            break
        finite.append((step, value))
    if len(finite) <= points:
        return finite
    edges = [round(index * len(finite) / points) for index in range(points + 1)]
    parts = [finite[a:b] for a, b in pairwise(edges)]
    return [(statistics.fmean(s for s, _ in part), statistics.fmean(v for _, v in part)) for part in parts]


def draw(facts: ReportData) -> dict[str, list[Markup]]:
    """Draw the panels of each cell, by its name."""
    points = max(8, min(90, POINT_BUDGET // max(2 * len(facts.runs), 1)))
    return {cell: _cell(facts, cell, points) for cell in facts.cells}


def _cell(facts: ReportData, cell: str, points: int) -> list[Markup]:
    row = next(iter(facts.primary_of(cell)), None) or next(row for row in facts.rows if row.cell == cell)
    losses: dict[str, dict[int, Curve]] = {}
    scores: dict[str, dict[int, Curve]] = {}
    for arm in facts.arms:
        for run in facts.runs_of(cell, arm):
            loss, score = read(run, row.metric)
            losses.setdefault(arm, {})[run.seed] = thin(loss, points)
            scores.setdefault(arm, {})[run.seed] = thin(score, points)
    sign = -1 if row.higher_is_better is False else 1
    paired = _differences(scores, facts.baseline, sign)
    panels = [
        panel(facts, losses, "training loss", f"Training loss in {cell}"),
        panel(facts, scores, f"validation {row.metric}", f"Validation {row.metric} in {cell}"),
        panel(
            facts,
            paired,
            f"validation {row.metric} minus {facts.baseline}, same seed",
            f"Differences in {cell}",
        ),
    ]
    return [drawn for drawn in panels if drawn]


def _differences(
    scores: Mapping[str, Mapping[int, Curve]], baseline: str, sign: int
) -> dict[str, dict[int, Curve]]:
    """Return arm minus baseline of the same seed at the steps where both were evaluated."""
    stock = scores.get(baseline, {})
    paired: dict[str, dict[int, Curve]] = {}
    for arm, curves in scores.items():
        for seed in curves.keys() & stock.keys() if arm != baseline else ():
            at = dict(stock[seed])
            paired.setdefault(arm, {})[seed] = [(x, sign * (y - at[x])) for x, y in curves[seed] if x in at]
    return paired


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Return the mean of the curves over the steps that all of them cover, interpolated linearly."""
    curves = [curve for curve in curves if curve]
    if len(curves) < 2:
        return []
    start, end = max(curve[0][0] for curve in curves), min(curve[-1][0] for curve in curves)
    steps = [step for step, _ in max(curves, key=len) if start <= step <= end]
    return [(step, statistics.fmean(_at(curve, step) for curve in curves)) for step in steps]


def _at(curve: Curve, step: float) -> float:
    index = bisect_right(curve, step, key=lambda point: point[0])
    if index == len(curve):
        return curve[-1][1]
    (x0, y0), (x1, y1) = curve[index - 1], curve[index]
    return y0 + (y1 - y0) * (step - x0) / (x1 - x0)


def panel(facts: ReportData, curves: Mapping[str, Mapping[int, Curve]], label: str, title: str) -> Markup:
    """Draw one panel; empty for fewer than two steps, because the slopes show scores at a single step."""
    drawn = [point for seeds in curves.values() for curve in seeds.values() for point in curve]
    if len({step for step, _ in drawn}) < 2:
        return Markup()
    xs, ys = svg.Scale(0, max(x for x, _ in drawn), LEFT, RIGHT), _range(drawn)
    body, thick = _frame(xs, ys, label), ""
    for arm, seeds in curves.items():
        each = seeds.values() if len(curves) <= MOST_ARMS else ()
        thin_lines = "".join(_line(curve, xs, ys, "thin") for curve in each)
        body += svg.tag("g", thin_lines or " ", class_=svg.colour(facts.place(arm)))
        average = mean_curve(list(seeds.values())) or (list(seeds.values()) or [[]])[0]
        thick += svg.tag(
            "g",
            svg.hover(f"{arm}, mean") + _line(average, xs, ys, "thick"),
            class_=svg.colour(facts.place(arm)),
        )
    ends = [
        f"{arm} {fmt.number(fmt.mean([c[-1][1] for c in s.values() if c]), 3)}" for arm, s in curves.items()
    ]
    return svg.figure(WIDTH, HEIGHT, title, f"At the end: {', '.join(ends)}.", body + thick, class_="panel")


def _range(points: Curve) -> svg.Scale:
    """Return the vertical axis; a spike among the top hundredth of the points is cut."""
    values = sorted(value for _, value in points)
    top = values[min(len(values) - 1, int(len(values) * 0.99))]
    spike = values[-1] > top + 2 * (top - values[0])
    low, high = svg.padded([values[0], top if spike else values[-1]])
    return svg.Scale(low, high, BOTTOM, TOP)


def _line(curve: Curve, xs: svg.Scale, ys: svg.Scale, class_: str) -> str:
    if len(curve) == 1:
        (x, y), *_ = curve
        return svg.tag("circle", cx=float(xs(x)), cy=float(ys.clamp(y)), r=2, class_="dot")
    return svg.path([(xs(x), ys.clamp(y)) for x, y in curve], class_)


def _frame(xs: svg.Scale, ys: svg.Scale, label: str) -> str:
    body = svg.text(0, 13, svg.shorten(label, WIDTH), None, "strong")
    for tick in ys.ticks(4):
        body += svg.line(LEFT, ys(tick), RIGHT, ys(tick), "zero" if abs(tick) < 1e-12 else "hair")
        body += svg.tick_beside(LEFT - 6, ys(tick) + 4, tick)
    for tick in xs.ticks(4):
        body += svg.tick(xs(tick), BOTTOM + 16, tick, WIDTH)
    return body + svg.text(RIGHT, HEIGHT - 6, "optimizer step", "end", "soft tiny")
