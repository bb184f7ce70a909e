"""Attention diagnostics as heat maps, layer by head: an arm, and what differs from the baseline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup

from pipelines.report import format as fmt
from pipelines.report.attention import ENTROPY, OWN, SINK, AttentionStats, Rows, overall
from pipelines.report.data import ReportData
from pipelines.report.figures import svg

LARGEST, SMALLEST, WIDEST = 22.0, 7.0, 132.0  # sides of a tile, width of a map
LEFT, TOP, GAP, RAMP = 46.0, 44.0, 24.0, 30.0
STEPS = 5  # of the key beneath a map


def draw(facts: ReportData, stats: Mapping[str, AttentionStats]) -> dict[str, list[Markup]]:
    """Draw the panels of one cell by what they show; all arms have one scale of shades."""
    drawn = {quantity: _against_baseline(facts, stats, quantity) for quantity in (ENTROPY, SINK)}
    drawn[OWN] = [
        _panel(facts, arm, one.sites, [_own(one, quantity)])
        for arm, one in stats.items()
        for quantity in one.own
    ]
    return drawn


def _against_baseline(facts: ReportData, stats: Mapping[str, AttentionStats], quantity: str) -> list[Markup]:
    """Draw each arm and, beside it, its difference from the baseline."""
    stock = stats.get(facts.baseline)
    means = {arm: one.mean(quantity) for arm, one in stats.items()}
    apart = {arm: one.minus(stock, quantity) for arm, one in stats.items() if stock and one is not stock}
    most = 1.0 if quantity == ENTROPY else _furthest(means.values())
    reach = _furthest(apart.values())
    panels = []
    for arm, rows in means.items():
        maps = [Map("mean over seeds", rows, 0.0, most)]
        maps += [Map(f"minus {facts.baseline}", apart[arm], -reach, reach)] if apart.get(arm) else []
        panels.append(_panel(facts, arm, stats[arm].sites, maps))
    return panels


class Map:
    """One heat map; `low` is 0 for quantities without a sign, `-high` for those with one."""

    def __init__(self, name: str, rows: Rows, low: float, high: float) -> None:
        self.name, self.rows, self.low, self.high = name, rows, low, high

    def shade(self, value: float | None) -> tuple[str, str] | None:
        """Return class and opacity of a tile; None where there is no number."""
        if not fmt.known(value):
            return None
        share = min(abs(value) / self.high, 1.0)
        sign = "" if self.low == 0 else " more" if value >= 0 else " less"
        return f"tile{sign}", f"{share:.2f}".removeprefix("0") or "0"


def _own(stats: AttentionStats, quantity: str) -> Map:
    """Return the map of what only this arm has: a size, or a number that is 0 in stock attention."""
    rows = stats.mean(quantity)
    reach = _furthest([rows])
    return Map(quantity.split(": ")[-1], rows, 0.0 if quantity.endswith(".rms") else -reach, reach)


def _furthest(tables: Iterable[Rows]) -> float:
    """Return the largest absolute value, the end of the scale; 1 where all are zero."""
    values = fmt.finite(value for rows in tables for row in rows for value in row)
    return max(map(abs, values), default=0.0) or 1.0


def _panel(facts: ReportData, arm: str, sites: Sequence[str], maps: Sequence[Map]) -> Markup:
    """Draw the maps of one arm side by side."""
    heads = max(len(row) for one in maps for row in one.rows)
    tile = max(SMALLEST, min(LARGEST, WIDEST / heads))
    step = max(WIDEST, tile * heads) + GAP
    width, bottom = LEFT + step * len(maps) - GAP + 8, TOP + tile * len(sites)
    body = svg.mark(6, 9, facts.place(arm)) + svg.text(
        18, 13, svg.shorten(arm, width - 18, 14), None, "strong"
    )
    body += "".join(
        svg.text(LEFT - 6, TOP + tile * (place + 0.5) + 4, name, "end", "soft tiny")
        for place, name in enumerate(sites)
        if tile >= 11 or place % 2 == 0
    )
    for number, one in enumerate(maps):
        left = LEFT + number * step
        body += _map(one, left, tile, heads, sites) + _key(one, left, bottom)
    return svg.figure(width, bottom + RAMP, f"Attention of {arm}", _describe(sites, maps), body)


def _map(one: Map, left: float, tile: float, heads: int, sites: Sequence[str]) -> str:
    """Draw a row of tiles for each site; a number per site is as wide as all its heads."""
    body = svg.text(left, TOP - 8, svg.shorten(one.name, WIDEST, 11), None, "soft tiny")
    for place, row in enumerate(one.rows):
        wide = heads / len(row) if row else 0
        tiles = "".join(
            _tile(one, value, left + number * tile * wide, TOP + place * tile, tile * wide, tile)
            for number, value in enumerate(row)
        )
        values = " ".join(_short(value) for value in row)
        body += svg.tag("g", svg.hover(f"{one.name}, {sites[place]}: {values}") + tiles)
    return body


def _tile(one: Map, value: float | None, x: float, y: float, width: float, height: float) -> str:
    shade = one.shade(value)
    if shade is None:
        return ""
    class_, opacity = shade
    return svg.tag(
        "rect",
        x=float(x),
        y=float(y),
        width=float(width - 1),
        height=float(height - 1),
        class_=class_,
        fill_opacity=opacity,
    )


def _key(one: Map, left: float, top: float) -> str:
    """Draw the key: which shade is which number."""
    low, high = _short(one.low), _short(one.high)
    y, start = top + 10, left + 7 * len(low) + 4
    size = min(11.0, (WIDEST - 7 * len(low + high) - 7) / STEPS)
    ends = svg.text(left, y + 10, low, None, "soft tiny")
    for place in range(STEPS):
        value = one.low + (one.high - one.low) * place / (STEPS - 1)
        ends += _tile(one, value, start + place * size, y, size, size)
    return ends + svg.text(start + STEPS * size + 3, y + 10, high, None, "soft tiny")


def _short(value: float | None) -> str:
    """Return a number with two significant digits."""
    return f"{value:.2g}".replace("-", "−") if fmt.known(value) else fmt.MISSING


def _describe(sites: Sequence[str], maps: Sequence[Map]) -> str:
    """Describe the mean and the most extreme head, for screen readers."""
    parts = []
    for one in maps:
        known = [
            (value, site, head)
            for site, row in zip(sites, one.rows)
            for head, value in enumerate(row)
            if fmt.known(value)
        ]
        if known:
            value, site, head = max(known, key=lambda item: abs(item[0]))
            where = f"{_short(value)} at layer {site}, head {head}"
            parts.append(f"{one.name}: {_short(overall(one.rows))} on average, {where}.")
    return " ".join(parts)
