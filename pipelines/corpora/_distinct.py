"""Draw different texts for one split: no text is drawn twice, and none is in two splits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TypeVar

from pipelines.errors import UserError

T = TypeVar("T")
SHARES = {  # range of the first byte of the hash of a text
    "train": (0, 200),
    "validation": (200, 228),
    "test": (228, 256),
}
MOST_DRAWS = 20_000  # one after the other without a new text


def distinct(draws: Iterator[tuple[str, T]], split: str) -> Iterator[T]:
    """Yield what is drawn with each new text of a split, in the order of the draws.

    Raises:
        UserError: there are no more different texts.
    """
    low, high = SHARES[split]
    seen: set[str] = set()
    in_vain = 0
    for text, drawn in draws:
        if text not in seen and low <= hashlib.sha256(text.encode()).digest()[0] < high:
            seen.add(text)
            in_vain = 0
            yield drawn
        elif (in_vain := in_vain + 1) > MOST_DRAWS:
            what = f"with these options the corpus has only {len(seen):,} different texts"
            raise UserError(f"data.generated.{split}", what, accepted="ask for fewer, or change the options")
