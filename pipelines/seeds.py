"""Derive every random stream of a run from its seed and a name; no generator state has to be stored."""

from __future__ import annotations

import hashlib


def derive(seed: int, *names: object) -> int:
    """Return a 63-bit seed for one named stream, such as `derive(seed, "order", epoch)`.

    Streams with different names are independent: an arm that draws more numbers in one stream (for example
    for random parameters of a variant) changes no number of another stream.
    """
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
