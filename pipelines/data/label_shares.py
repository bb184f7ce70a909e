"""A note where the splits of a run have different shares of labels, as those of a sorted file do."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from pipelines.tasks.base import Example, Task

NONE = "no label"  # in an example, such as a sentence without entities
DISTANCE = 0.1  # between the shares of two splits (total variation), beyond what chance explains


def count(examples: Iterable[Example], task: Task) -> Counter[str]:
    """Return how many examples have each label, or each set of labels; nothing for a task without labels."""
    sets = map(task.stratum, examples)
    return Counter(", ".join(sorted(labels)) or NONE for labels in sets if labels is not None)


def difference(split: str, counted: Counter[str], train: Counter[str]) -> str | None:
    """Return a note where the labels of a split have other shares than those of train."""
    here, there = counted.total(), train.total()
    if not here or not there:
        return None
    gaps = {label: counted[label] / here - train[label] / there for label in counted | train}
    pooled = {label: (counted[label] + train[label]) / (here + there) for label in gaps}
    chance = sum(math.sqrt(p * (1 - p) * (1 / here + 1 / there)) for p in pooled.values())  # 2.5 times
    if sum(map(abs, gaps.values())) / 2 <= DISTANCE + chance:
        return None
    label = max(gaps, key=lambda name: (abs(gaps[name]), name))
    shares = f"{100 * counted[label] / here:.0f} % here, {100 * train[label] / there:.0f} % in train"
    return (
        f"{split}: the shares of labels differ from those of train ({label}: {shares}); a sorted file is cut "
        "like this: data.split shuffles it"
    )
