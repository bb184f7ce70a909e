"""The packages as a layered picture: every line goes down, from a package to one that it imports.

The method is that of Sugiyama et al. (1981): levels by the longest chain of imports, a point on each level
that a long line crosses, rows ordered by the mean place of their neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from pipelines.report.figures import palette, svg
from scripts.architecture_figure.imports import Graph, direct, levels, package_graph

BOX_WIDTH, BOX_HEIGHT, LANE_WIDTH, ROW_HEIGHT, GAP, MARGIN = 126, 28, 14, 56, 18, 16
SWEEPS = 12  # over all rows; the order does not change after a few
Row = list[str]  # names, and crossings: "from>to" where a line crosses a level


def picture() -> str:
    """Return the picture of this repository as an SVG file of its own."""
    graph = package_graph()
    links, level = direct(graph), levels(graph)
    rows, segments = _with_crossings(links, level)
    _order(rows, segments)
    places = _places(rows)
    width = max(x for x, _ in places.values()) + BOX_WIDTH / 2 + MARGIN
    height = len(rows) * ROW_HEIGHT - (ROW_HEIGHT - BOX_HEIGHT) + 2 * MARGIN
    lines = "".join(_line(places[upper], places[lower], ">" in upper) for upper, lower in segments)
    boxes = "".join(_box(name, *places[name]) for name in graph)
    described = "; ".join(f"{name} imports {', '.join(sorted(links[name]))}" for name in graph if links[name])
    body = svg.tag("g", lines, class_=svg.colour(0)) + boxes
    return palette.standalone(svg.figure(width, height, "Packages and their imports", described, body))


def _with_crossings(links: Graph, level: Mapping[str, int]) -> tuple[list[Row], list[tuple[str, str]]]:
    """Return rows from the highest level down, and the lines cut into pieces from one row to the next."""
    rows: list[Row] = [[] for _ in range(max(level.values()) + 1)]
    for name in sorted(level):
        rows[level[name]].append(name)
    segments = []
    for name in sorted(links):
        for other in sorted(links[name]):
            upper = name
            for crossed in range(level[name] - 1, level[other], -1):
                crossing = f"{name}>{other}"
                rows[crossed].append(f"{crossing}>{crossed}")
                segments.append((upper, rows[crossed][-1]))
                upper = rows[crossed][-1]
            segments.append((upper, other))
    return rows[::-1], segments


def _order(rows: Sequence[Row], segments: Sequence[tuple[str, str]]) -> None:
    """Order each row by the mean place of its neighbours in the row above, then below, and again."""
    above: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    for upper, lower in segments:
        above.setdefault(lower, []).append(upper)
        below.setdefault(upper, []).append(lower)
    for sweep in range(SWEEPS):
        neighbours, order = (above, rows) if sweep % 2 == 0 else (below, rows[::-1])
        for row in order:
            places = _places(rows)

            def mean_place(name: str, places: Mapping[str, tuple[float, float]] = places) -> float:
                return fmean(places[one][0] for one in neighbours.get(name, [name]))  # noqa: B023

            row.sort(key=mean_place)


def _places(rows: Sequence[Row]) -> dict[str, tuple[float, float]]:
    """Return the centre of every box and crossing; each row is centred."""
    widths = [sum(map(_width, row)) + GAP * (len(row) - 1) for row in rows]
    middle = MARGIN + max(widths) / 2
    found = {}
    for number, (row, width) in enumerate(zip(rows, widths, strict=True)):
        left = middle - width / 2
        for name in row:
            found[name] = (left + _width(name) / 2, MARGIN + BOX_HEIGHT / 2 + number * ROW_HEIGHT)
            left += _width(name) + GAP
    return found


def _width(name: str) -> float:
    return LANE_WIDTH if ">" in name else BOX_WIDTH


def _line(upper: tuple[float, float], lower: tuple[float, float], from_crossing: bool) -> str:
    """Draw a piece of a line; it leaves and arrives upright, and crosses a row as a straight stroke."""
    (x1, y1), (x2, y2) = upper, lower
    y1, y2 = y1 + BOX_HEIGHT / 2, y2 - BOX_HEIGHT / 2
    bend = (y2 - y1) * 0.6
    start = f"M{svg.coordinate(x1)},{svg.coordinate(y1 - BOX_HEIGHT)} V{svg.coordinate(y1)}"
    if not from_crossing:
        start = f"M{svg.coordinate(x1)},{svg.coordinate(y1)}"
    points = ((x1, y1 + bend), (x2, y2 - bend), (x2, y2))
    curve = " ".join(f"{svg.coordinate(x)},{svg.coordinate(y)}" for x, y in points)
    return svg.tag("path", d=f"{start} C{curve}", class_="thin")


def _box(name: str, x: float, y: float) -> str:
    label = f"{name}.py" if name in ("errors", "seeds") else f"{name}/"
    frame = svg.rect(x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2, BOX_WIDTH, BOX_HEIGHT, "band")
    return frame + svg.text(x, y + 4.5, label, "middle", "strong")
