"""Every random stream of a run, derived from its one seed by name: nothing to store, nothing to replay."""

from __future__ import annotations

import hashlib


def derive(seed: int, *names: object) -> int:
    """A 63-bit seed for one named stream, such as `derive(seed, "order", epoch)`.

    Streams with different names are independent, so an arm that draws more numbers in one of them
    (a variant with random parameters, say) shifts no draw of another.
    """
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
