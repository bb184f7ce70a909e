"""The attention of one example as maps of weights: a row for each layer, a map for each head, stock below."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from pipelines.report.figures import svg

Weights = np.ndarray[Any, np.dtype[np.float32]]  # (heads, queries, keys)
SIDE, GAP, LEFT, TOP = 76.0, 8.0, 150.0, 34.0
TOKEN = 14.0  # side of a weight where tokens are written beside it
MOST_LABELLED = 48  # tokens of a map with its tokens
PALETTE = b"".join(
    bytes(round(255 + share * (end - 255)) for end in colour)
    for colour, shares in (((163, 0, 4), np.linspace(1, 0, 128)), ((1, 74, 195), np.linspace(0, 1, 128)))
    for share in shares
)  # red for weights below 0, white, blue


@dataclass(frozen=True)
class SiteMaps:
    """The weights of one attention site on one example, with the tokens of its rows and columns."""

    name: str  # "encoder 0, self"
    queries: Sequence[str]
    keys: Sequence[str]
    weights: dict[str, Weights]  # name of the model ("gate", "stock") -> weights, the same heads


def draw(sites: Sequence[SiteMaps]) -> Markup:
    """Draw every head of every site, the models below each other."""
    heads = max(len(next(iter(site.weights.values()))) for site in sites)
    models = list(sites[0].weights)
    most = scale(sites)
    body = "".join(
        svg.text(LEFT + head * (SIDE + GAP) + SIDE / 2, TOP - 10, f"head {head}", "middle", "soft tiny")
        for head in range(heads)
    )
    y = TOP
    for site in sites:
        body += svg.text(LEFT - 12, y + 12, svg.shorten(site.name, LEFT - 12), "end", "strong")
        for model in models:
            body += svg.text(LEFT - 12, y + SIDE / 2 + 10, svg.shorten(model, LEFT - 12), "end", "soft tiny")
            for head, weights in enumerate(site.weights[model]):
                about = f"{site.name}, head {head}, {model}: {_extreme(site, weights)}"
                body += _image(weights, most, LEFT + head * (SIDE + GAP), y, SIDE, SIDE, about)
            y += SIDE + 3
        y += GAP
    width = LEFT + heads * (SIDE + GAP)
    described = (
        f"{len(sites)} attention sites, {heads} heads, {' and '.join(models)}; full colour is {most:.2g}"
    )
    return svg.figure(width, y, "Attention weights by layer and head", described, body)


def labelled(site: SiteMaps, head: int, most: float) -> Markup | None:
    """Draw one head with its tokens, the models side by side; None where there are too many tokens."""
    if max(len(site.queries), len(site.keys)) > MOST_LABELLED:
        return None
    wide, high = TOKEN * len(site.keys), TOKEN * len(site.queries)
    body, x, top = "", LEFT, 110.0
    for place, key in enumerate(site.queries):
        body += svg.text(
            LEFT - 6, top + TOKEN * (place + 0.75), svg.shorten(key, LEFT - 6, 11), "end", "tiny"
        )
    for model, weights in site.weights.items():
        body += svg.text(x, 12, model, None, "strong")
        places = enumerate(site.keys)
        body += "".join(_upright(x + TOKEN * (place + 0.75), top - 5, key) for place, key in places)
        about = f"{model}: {_extreme(site, weights[head])}"
        body += _image(weights[head], most, x, top, wide, high, about)
        x += wide + 24
    return svg.figure(x + 40, top + high + 6, f"{site.name}, head {head}", site.name, body)


def scale(sites: Sequence[SiteMaps]) -> float:
    """Return the weight that has the full colour: the largest of all, so that maps can be compared."""
    return max(float(np.abs(one).max()) for site in sites for one in site.weights.values()) or 1.0


def _upright(x: float, y: float, key: str) -> str:
    content = svg.escape(svg.shorten(key, 100, 11))
    turned = f"rotate(-90 {svg.coordinate(x)} {svg.coordinate(y)})"
    return svg.tag("text", content, x=float(x), y=float(y), class_="tiny", transform=turned)


def _extreme(site: SiteMaps, weights: Weights) -> str:
    """Describe the largest weight of a head, for hovering and screen readers."""
    query, key = divmod(int(np.abs(weights).argmax()), weights.shape[1])
    return f"most {weights[query, key]:.2f}, from {site.queries[query]} to {site.keys[key]}"


def _image(weights: Weights, most: float, x: float, y: float, width: float, height: float, about: str) -> str:
    shares = np.sign(weights) * np.sqrt(np.abs(weights) / most)  # a few large weights would hide all others
    shades = np.clip(np.rint(127.5 + 127.5 * shares), 0, 255).astype(np.uint8)
    source = "data:image/png;base64," + base64.b64encode(_png(shades)).decode()
    # `href` is no attribute that `svg.tag` needs to know: the text has no character to escape.
    picture = (
        f'<image x="{svg.coordinate(x)}" y="{svg.coordinate(y)}" width="{svg.coordinate(width)}" '
        f'height="{svg.coordinate(height)}" preserveAspectRatio="none" style="image-rendering:pixelated" '
        f'href="{source}"/>'
    )
    return svg.tag("g", svg.hover(about) + picture + svg.rect(x, y, width, height, "hair"))


def _png(shades: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """Return an image of 256 shades of `PALETTE` as a PNG file."""
    height, width = shades.shape
    rows = b"".join(b"\0" + row.tobytes() for row in shades)
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunks([(b"IHDR", header), (b"PLTE", PALETTE), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")])
    )


def _chunks(chunks: Sequence[tuple[bytes, bytes]]) -> Iterator[bytes]:
    for name, content in chunks:
        checksum = struct.pack(">I", zlib.crc32(name + content))
        yield struct.pack(">I", len(content)) + name + content + checksum
