"""Rows that stand twice: in one split, where they count once, and in two, which is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from pipelines.shown import plural
from pipelines.tasks.base import Example, Task


def clustered(split: str, examples: list[Example], contents: np.ndarray, task: Task) -> Iterator[str]:
    """Make equal rows one cluster, where the data names none, and yield their number.

    A model says the same of each of them, so a row that stands ten times is no ten observations.

    Args:
        contents: 64 bits of the digest of each row without its id.
    """
    places = _repeats(contents)
    alone = [place for place in places if task.cluster(examples[place]) == examples[place]["id"]]
    ids = {place: examples[places[place]]["id"] for place in alone}
    for place in alone:
        examples[place] = {**examples[place], "cluster": ids[place]}
    if alone:
        count = len(alone) - len(set(ids.values()))
        yield f"{split}: {plural(count, 'row')} of {len(examples):,} repeat another; equal rows count as one"


def shared(contents: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yield how many rows of a split are in another one too."""
    distinct = {split: np.unique(rows) for split, rows in contents.items()}
    for split, other in (("validation", "train"), ("test", "train"), ("test", "validation")):
        if split in distinct and other in distinct:
            count = len(np.intersect1d(distinct[split], distinct[other], assume_unique=True))
            if count:
                yield f"{split}: {count:,} of {len(distinct[split]):,} distinct rows are also in {other}"


def _repeats(contents: np.ndarray) -> dict[int, int]:
    """Return for each row that another row repeats, or that repeats one, the place of the first of them."""
    _, first, which, counts = np.unique(contents, return_index=True, return_inverse=True, return_counts=True)
    places = np.flatnonzero(counts[which] > 1)
    return dict(zip(places.tolist(), first[which[places]].tolist()))
