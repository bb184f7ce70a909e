"""Where the uncertainty of each difference comes from: seeds, examples, or both at once."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.report import format as fmt
from pipelines.report.data import ReportData, Row
from pipelines.report.figures import svg

WIDTH, ROW, TOP = 330, 46, 0
LEFT, RIGHT = 0, 330


def shares(row: Row) -> tuple[float, float, float] | None:
    """Shares of seeds alone, of both at once and of examples alone in the variance of a difference.

    `variance.seeds` and `variance.examples` both count the interaction; it is taken out of each
    and shown once.
    None where there is no variance to share.
    """
    known = row.variance or {}
    seeds, examples, both = (known.get(name) for name in ("seeds", "examples", "interaction"))
    if not all(map(fmt.known, (seeds, examples, both))):
        return None
    both = min(both, seeds, examples)
    parts = seeds - both, both, examples - both
    total = sum(parts)
    return tuple(part / total for part in parts) if total > 0 else None


def draw(facts: ReportData, rows: Sequence[Row]) -> str:
    """Bars of one cell's arms; empty where nothing is known."""
    known = [(row, shares(row)) for row in rows]
    known = [(row, parts) for row, parts in known if parts]
    if not known:
        return ""
    body = "".join(_bar(facts, row, parts, TOP + ROW * place) for place, (row, parts) in enumerate(known))
    told = "; ".join(f"{row.arm}: {_percent(parts)}" for row, parts in known)
    title = f"Shares of variance on {known[0][0].cell}"
    return svg.figure(WIDTH, TOP + ROW * len(known), title, told, body)


def _percent(parts: Sequence[float]) -> str:
    return ", ".join(f"{name} {part:.0%}" for name, part in zip(("seeds", "both", "examples"), parts))


def _bar(facts: ReportData, row: Row, parts: Sequence[float], y: float) -> str:
    name = svg.escape(svg.shorten(row.arm, 165, 14)) + svg.hover(row.arm)
    body = svg.mark(7, y + 11, facts.place(row.arm), size=4) + svg.tag("text", name, x=18, y=float(y + 15))
    start = float(LEFT)
    for part, class_ in zip(parts, ("share-seeds", "share-both", "share-examples")):
        width = part * (RIGHT - LEFT)
        body += svg.rect(start, y + 23, max(width - 1, 0), 12, class_)
        start += width
    advice = "more seeds help most" if parts[0] > parts[2] else "more examples help most"
    return body + svg.text(RIGHT, y + 15, advice, "end", "soft tiny")
