"""The learning curves of one run as an SVG figure of its own, for its card."""

from __future__ import annotations

from pathlib import Path

from pipelines.report.data import RunLink
from pipelines.report.figures import curves, palette, svg

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, GAP = 640, 220, 48, 30, 180, 60
POINTS = 120


def draw(run: Path, metric: str) -> str | None:
    """Draw training loss and validation score over steps; None if fewer than two points were logged.

    Args:
        run: the folder of the run.
        metric: the metric of the validation score.
    """
    loss, score = curves.read(RunLink("", "", 0, run, ""), metric)
    drawn = [("training loss", curves.thin(loss, POINTS)), (f"validation {metric}", score)]
    drawn = [(label, curve) for label, curve in drawn if len(curve) > 1]
    if not drawn:
        return None
    width = (WIDTH - LEFT - GAP * (len(drawn) - 1)) / len(drawn)
    panels = (
        _panel(curve, label, LEFT + (width + GAP) * at, width - 8) for at, (label, curve) in enumerate(drawn)
    )
    ends = ", ".join(f"{label} {curve[-1][1]:.4g}" for label, curve in drawn)
    style = svg.tag("style", palette.style())
    return svg.figure(WIDTH, HEIGHT, "Learning curves", f"At the end: {ends}.", style + "".join(panels))


def _panel(curve: curves.Curve, label: str, left: float, width: float) -> str:
    xs = svg.Scale(curve[0][0], curve[-1][0], left, left + width)
    ys = svg.Scale(*svg.padded([value for _, value in curve]), BOTTOM, TOP)
    body = svg.text(left, TOP - 14, label, None, "strong")
    for tick in ys.ticks(4):
        body += svg.line(left, ys(tick), left + width, ys(tick), "hair")
        body += svg.text(left - 6, ys(tick) + 4, svg.tick_label(tick), "end", "soft tiny")
    for tick in xs.ticks(4):
        body += svg.text(xs(tick), BOTTOM + 16, svg.tick_label(tick), "middle", "soft tiny")
    body += svg.text(left + width, HEIGHT - 6, "optimizer step", "end", "soft tiny")
    points = [(xs(step), ys(value)) for step, value in curve]
    return body + svg.tag("g", svg.path(points, "thick"), class_=svg.colour(1))
