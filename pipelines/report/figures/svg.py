"""SVG elements with escaped attributes, linear scales, round ticks, marks of the arms."""

from __future__ import annotations

import html
import math
import statistics
from collections.abc import Sequence

from markupsafe import Markup

from pipelines.shown import printable

SHAPES = 5
HUES = 7


def escape(text: str) -> str:
    """Return a text so that XML shows it as it is, on one line."""
    return html.escape(printable(" ".join(text.splitlines()), keep=""))


def tag(name: str, content: str = "", **attributes: object) -> str:
    """Return one element; `class_` and `text_anchor` become `class` and `text-anchor`, None is left out."""
    words = [name]
    for key, value in attributes.items():
        if value is None:
            continue
        text = coordinate(value) if isinstance(value, float) else str(value)
        words.append(f'{key.rstrip("_").replace("_", "-")}="{escape(text)}"')
    opening = " ".join(words)
    return f"<{opening}>{content}</{name}>" if content else f"<{opening}/>"


def coordinate(value: float) -> str:
    """Return a length in user units, to a tenth."""
    return f"{value:.1f}".removesuffix(".0")


def figure(
    width: float, height: float, title: str, description: str, body: str, **attributes: object
) -> Markup:
    """Return a whole picture with a title and a description for screen readers."""
    heading = tag("title", escape(title)) + tag("desc", escape(description))
    picture = tag(
        "svg",
        heading + body,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {coordinate(width)} {coordinate(height)}",
        width=coordinate(width),
        height=coordinate(height),
        role="img",
        **attributes,
    )
    return Markup(picture)


def text(x: float, y: float, content: str, anchor: str | None = None, class_: str | None = None) -> str:
    return tag("text", escape(content), x=float(x), y=float(y), text_anchor=anchor, class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    return tag("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def rect(x: float, y: float, width: float, height: float, class_: str, content: str = "") -> str:
    return tag(
        "rect",
        content,
        x=float(x),
        y=float(y),
        width=float(max(width, 0)),
        height=float(max(height, 0)),
        class_=class_,
    )


def path(points: Sequence[tuple[float, float]], class_: str) -> str:
    """Return a line through `points`."""
    steps = " ".join(f"{coordinate(x)},{coordinate(y)}" for x, y in points)
    return tag("path", d=f"M{steps}", class_=class_) if points else ""


def hover(content: str) -> str:
    """Return the text shown when a pointer is on a mark."""
    return tag("title", escape(content))


def link(href: str, content: str, label: str) -> str:
    return tag("a", hover(label) + content, href=href)


def colour(place: int) -> str:
    """Return the class of an arm's colour: neutral for the baseline, the hues in turn for the others."""
    return "arm-0" if place == 0 else f"arm-{(place - 1) % HUES + 1}"


def mark(x: float, y: float, place: int, filled: bool = True, size: float = 5, content: str = "") -> str:
    """Return an arm's mark: hue and shape repeat with different periods, so 35 arms all differ."""
    fill = "mark" if filled else "mark hollow"
    classes = f"{fill} {colour(place)}"
    shape = 0 if place == 0 else (place - 1) % SHAPES
    if shape == 0:
        return tag("circle", content, cx=float(x), cy=float(y), r=float(size), class_=classes)
    corners = _polygon(shape, size)
    points = " ".join(f"{coordinate(x + dx)},{coordinate(y + dy)}" for dx, dy in corners)
    return tag("polygon", content, points=points, class_=classes)


def _polygon(shape: int, size: float) -> list[tuple[float, float]]:
    """Return the corners of a square, diamond or triangle of about the circle's area."""
    if shape == 1:
        half = size * 0.89
        return [(-half, -half), (half, -half), (half, half), (-half, half)]
    if shape == 2:
        half = size * 1.26
        return [(0, -half), (half, 0), (0, half), (-half, 0)]
    up = -1 if shape == 3 else 1
    return [(0, up * size * 1.3), (size * 1.2, -up * size * 0.85), (-size * 1.2, -up * size * 0.85)]


def shorten(name: str, width: float, size: float = 13) -> str:
    """Return `name` cut in its middle to about `width` units, as long names often differ at their ends."""
    room = max(5, int(width / (size * 0.62)))
    if len(name) <= room:
        return name
    tail = (room - 1) // 2
    return f"{name[: room - 1 - tail]}…{name[-tail:]}"


def domain(reach: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Return the range of an axis of effects, from the values of each row; zero is always inside.

    A row more than three times as far out as the median row is cut, because it would shrink the others to
    dots; the figure marks it with an arrow.
    """
    far = [max(map(abs, row)) for row in reach if any(row)]
    cap = 3 * statistics.median(far) if far else 1.0
    values = [0.0, *(value for row in reach for value in row)]
    return padded([max(min(values), -cap), min(max(values), cap)], 0.05)


class Scale:
    """A linear map from values to user units."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        if not high > low:
            low, high = low - 0.5, high + 0.5
        self.low, self.high, self.start, self.end = low, high, start, end

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def clamp(self, value: float) -> float:
        return self(min(max(value, self.low), self.high))

    def inside(self, value: float) -> bool:
        return self.low <= value <= self.high

    def ticks(self, wanted: int = 5) -> list[float]:
        """Return about `wanted` round values inside the domain."""
        rough = (self.high - self.low) / max(wanted, 1)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]


def padded(values: Sequence[float], share: float = 0.06) -> tuple[float, float]:
    """Return the range of `values`, widened a little on both sides."""
    low, high = min(values), max(values)
    air = (high - low) * share or abs(high) * share or 0.5
    return low - air, high + air


def arrow(x: float, y: float, left: bool) -> str:
    """Return an arrow head, which shows that something continues beyond the axis."""
    way = -1 if left else 1
    corners = [(x + way * 5, y), (x - way * 4, y - 5), (x - way * 4, y + 5)]
    points = " ".join(f"{coordinate(px)},{coordinate(py)}" for px, py in corners)
    return tag("polygon", points=points, class_="tip")


def backdrop(scale: Scale, margin: float | None, top: float, bottom: float) -> str:
    """Return the margin band and the line of no difference between two heights."""
    band = ""
    if margin:
        left, right = scale.clamp(-margin), scale.clamp(margin)
        band = rect(left, top, right - left, bottom - top, "band", hover(f"margin ±{margin:g}"))
    return band + line(scale(0), top, scale(0), bottom, "zero")


def tick(x: float, y: float, value: float, width: float) -> str:
    """Return a number below its place on an axis, moved where it would leave a picture of `width`."""
    label = tick_label(value)
    half = 3.6 * len(label)
    return text(min(max(x, half), width - half), y, label, "middle", "soft tiny")


def tick_beside(end: float, y: float, value: float) -> str:
    """Return a number that ends at `end`, moved right where it would begin before the picture."""
    label = tick_label(value)
    return text(max(end, 7.2 * len(label)), y, label, "end", "soft tiny")


def tick_label(value: float) -> str:
    """Return an axis number in its shortest form: 0.5, 12, 1.25, 20k, 1e-05."""
    if value and abs(value) < 1e-3:
        return f"{value:.0e}".replace("-", "−", 1) if value < 0 else f"{value:.0e}"
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k".replace("-", "−")
    return f"{round(value, 6):g}".replace("-", "−")
