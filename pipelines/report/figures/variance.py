"""Where the uncertainty of each difference comes from: seeds, examples, or both at once."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from pipelines.comparison.significance import Variance
from pipelines.report import format as fmt
from pipelines.report.data import ReportData, Row
from pipelines.report.figures import svg

WIDTH, ROW, TOP = 330, 46, 0
LEFT, RIGHT = 0, 330


Shares = tuple[float, float, float]


def shares(variance: Variance | None) -> Shares | None:
    """Return the shares of seeds alone, of both at once and of examples alone in a variance.

    `variance.seeds` and `variance.examples` both count the interaction; it is taken out of each and shown
    once. None where there is no variance to divide.
    """
    if variance is None or not fmt.known(variance.seeds + variance.examples + variance.interaction):
        return None
    both = min(variance.interaction, variance.seeds, variance.examples)
    seeds, examples = variance.seeds - both, variance.examples - both
    total = seeds + both + examples
    return (seeds / total, both / total, examples / total) if total > 0 else None


def draw(facts: ReportData, rows: Sequence[Row]) -> Markup:
    """Draw a bar for each arm of a cell; empty where no variance is known."""
    known = [(row, parts) for row in rows if (parts := shares(row.variance))]
    if not known:
        return Markup()
    body = "".join(_bar(facts, row, parts, TOP + ROW * place) for place, (row, parts) in enumerate(known))
    description = "; ".join(f"{row.arm}: {_percent(parts)}" for row, parts in known)
    title = f"Shares of variance on {known[0][0].cell}"
    return svg.figure(WIDTH, TOP + ROW * len(known), title, description, body)


def _percent(parts: Shares) -> str:
    return ", ".join(f"{name} {part:.0%}" for name, part in zip(("seeds", "both", "examples"), parts))


def _bar(facts: ReportData, row: Row, parts: Shares, y: float) -> str:
    name = svg.escape(svg.shorten(row.arm, 165, 14)) + svg.hover(row.arm)
    body = svg.mark(7, y + 11, facts.place(row.arm), size=4) + svg.tag("text", name, x=18, y=float(y + 15))
    start = float(LEFT)
    for part, class_ in zip(parts, ("share-seeds", "share-both", "share-examples")):
        width = part * (RIGHT - LEFT)
        body += svg.rect(start, y + 23, max(width - 1, 0), 12, class_)
        start += width
    advice = "more seeds help most" if parts[0] > parts[2] else "more examples help most"
    return body + svg.text(RIGHT, y + 15, advice, "end", "soft tiny")
