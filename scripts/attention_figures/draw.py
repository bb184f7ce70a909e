"""The figures of docs/attention.md, drawn with the functions of the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from pipelines.report.figures import palette, svg
from scripts.attention_figures.measure import ARMS, FACTORS, HEAD_DIMS, NUM_KEYS, NUM_VALUES, Rows

PANEL, GAP, HEIGHT = 350, 26, 280
LEFT, RIGHT, TOP, BOTTOM = 40, 344, 34, 206
PLACES = {"1/√d": 0, "none": 1, "1/d": 3}  # the hue and shape of each factor
ARM_PLACES = dict(zip(ARMS, (0, 1, 2)))


def scaling(rows: Sequence[Rows]) -> str:
    """Draw the entropy and the spread of the softmax Jacobian over head_dim."""
    xs = svg.Scale(math.log2(HEAD_DIMS[0]) - 0.5, math.log2(HEAD_DIMS[-1]) + 0.5, LEFT, RIGHT)
    by_factor = {factor: [row for row in rows if row.factor == factor] for factor in FACTORS}
    left, right = _entropy(by_factor, xs), _jacobian(by_factor, xs)
    body = left + svg.tag("g", right, transform=f"translate({PANEL + GAP},0)") + _legend(PLACES)
    told = "; ".join(
        f"d {row.head_dim}, {row.factor}: entropy {row.entropy:.2f}, Jacobian "
        + ", ".join(f"{value:.3f}" for value in row.jacobian)
        for row in rows
    )
    title = "Entropy and softmax Jacobian of random scores by head_dim"
    return palette.standalone(svg.figure(2 * PANEL + GAP, HEIGHT, title, told, body))


def _entropy(by_factor: Mapping[str, Sequence[Rows]], xs: svg.Scale) -> str:
    ys = svg.Scale(0.0, 5.6, BOTTOM, TOP)
    body = _frame(ys, "mean entropy of a row, nats") + _dims(xs)
    even = ys(math.log(NUM_KEYS))
    body += svg.line(LEFT, even, RIGHT, even, "reach")
    body += svg.text(RIGHT, even - 9, f"log {NUM_KEYS}: all keys alike", "end", "soft tiny")
    for factor, rows in by_factor.items():
        points = [(xs(math.log2(row.head_dim)), ys(row.entropy)) for row in rows]
        body += svg.tag("g", svg.path(points, "thick"), class_=svg.colour(PLACES[factor]))
        body += "".join(svg.mark(x, y, PLACES[factor], size=4) for x, y in points)
    return body


def _jacobian(by_factor: Mapping[str, Sequence[Rows]], xs: svg.Scale) -> str:
    ys = svg.Scale(0.0, 0.5, BOTTOM, TOP)
    body = _frame(ys, "softmax Jacobian: median, 10–90 % of rows") + _dims(xs)
    for order, (factor, rows) in enumerate(by_factor.items()):
        for row in rows:
            x = xs(math.log2(row.head_dim)) + 11 * (order - 1)
            low, middle, high = map(ys, row.jacobian)
            bar = svg.tag("g", svg.line(x, low, x, high, "bar"), class_=svg.colour(PLACES[factor]))
            body += bar + svg.mark(x, middle, PLACES[factor], size=4)
    return body


def training(results: Mapping[str, Mapping[float, Sequence[float]]]) -> str:
    """Draw the final loss over the learning rate: seeds as dots, their mean as a line."""
    rates = list(next(iter(results.values())))
    width = 560
    xs = svg.Scale(math.log(rates[0]) - 0.3, math.log(rates[-1]) + 0.3, LEFT, width - 12)
    ys = svg.Scale(0.0, 3.4, BOTTOM, TOP)
    body = _frame(ys, f"loss of the last steps, nats (guessing: {math.log(NUM_VALUES):.2f})", width - 12)
    for rate in rates:
        body += svg.text(xs(math.log(rate)), BOTTOM + 16, f"{rate:g}", "middle", "soft tiny")
    body += svg.text(width - 12, BOTTOM + 32, "learning rate of Adam", "end", "soft tiny")
    for arm, by_rate in results.items():
        place = ARM_PLACES[arm]
        means = [(xs(math.log(rate)), ys(fmean(values))) for rate, values in by_rate.items()]
        dots = "".join(
            svg.tag("circle", cx=xs(math.log(rate)), cy=ys(value), r=2.4, class_="dot")
            for rate, values in by_rate.items()
            for value in values
        )
        body += svg.tag("g", dots + svg.path(means, "thick"), class_=svg.colour(place))
        body += "".join(svg.mark(x, y, place, size=4) for x, y in means)
    told = "; ".join(
        f"{arm}, rate {rate:g}: " + ", ".join(f"{value:.3f}" for value in values)
        for arm, by_rate in results.items()
        for rate, values in by_rate.items()
    )
    title = "Final loss of a trained attention layer by learning rate"
    return palette.standalone(svg.figure(width, HEIGHT, title, told, body + _legend(ARM_PLACES)))


def _frame(ys: svg.Scale, label: str, right: float = RIGHT) -> str:
    body = svg.text(6, 16, label, None, "strong")
    for tick in ys.ticks(5):
        body += svg.line(LEFT, ys(tick), right, ys(tick), "zero" if tick == 0 else "hair")
        body += svg.text(LEFT - 6, ys(tick) + 4, svg.tick_label(tick), "end", "soft tiny")
    return body


def _dims(xs: svg.Scale) -> str:
    ticks = "".join(svg.text(xs(math.log2(d)), BOTTOM + 16, str(d), "middle", "soft tiny") for d in HEAD_DIMS)
    return ticks + svg.text(RIGHT, BOTTOM + 32, "head_dim", "end", "soft tiny")


def _legend(places: Mapping[str, int]) -> str:
    body, x = "", float(LEFT)
    for name, place in places.items():
        label = name if name != "none" else "none (factor 1)"
        body += svg.mark(x + 5, HEIGHT - 17, place, size=4.5) + svg.text(x + 16, HEIGHT - 13, label)
        x += 34 + 7.2 * len(label)
    return body
