"""Notes on the labels of a run: shares that differ between splits, and labels that look alike."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from pipelines.tasks.base import Example, Task

NONE = "no label"  # in an example, such as a sentence without entities
AS_NUMBER = {"false": "0", "true": "1"}
DISTANCE = 0.1  # between the shares of two splits (total variation), beyond what chance explains


def count(examples: Iterable[Example], task: Task) -> Counter[frozenset[str]]:
    """Return how many examples have each set of labels, often of one; nothing for a task without labels."""
    return Counter(labels for labels in map(task.stratum, examples) if labels is not None)


def look_alikes(counted: Counter[frozenset[str]]) -> Iterator[str]:
    """Yield a note on each group of labels that a reader takes for one."""
    alike: dict[str, set[str]] = defaultdict(set)
    for label in set[str]().union(*counted):
        form = " ".join(unicodedata.normalize("NFKC", label).casefold().split())
        alike[AS_NUMBER.get(form, form)].add(label)
    for form, labels in alike.items():
        if len(labels) > 1:
            number = " (or true for 1, false for 0)" if form in AS_NUMBER.values() else ""
            listed = ", ".join(map(repr, sorted(labels)))
            yield f"train: {len(labels)} labels differ only in blanks, case or Unicode form{number}: {listed}"


def difference(split: str, counted: Counter[frozenset[str]], train: Counter[frozenset[str]]) -> str | None:
    """Return a note where the labels of a split have other shares than those of train."""
    here, there = counted.total(), train.total()
    if not here or not there:
        return None
    gaps = {label: counted[label] / here - train[label] / there for label in counted | train}
    pooled = {label: (counted[label] + train[label]) / (here + there) for label in gaps}
    chance = sum(math.sqrt(p * (1 - p) * (1 / here + 1 / there)) for p in pooled.values())  # 2.5 times
    if sum(map(abs, gaps.values())) / 2 <= DISTANCE + chance:
        return None
    label = max(gaps, key=lambda labels: (abs(gaps[labels]), sorted(labels)))
    name = ", ".join(sorted(label)) or NONE
    shares = f"{100 * counted[label] / here:.0f} % here, {100 * train[label] / there:.0f} % in train"
    return (
        f"{split}: the shares of labels differ from those of train ({name}: {shares}); a sorted file is cut "
        "like this: data.split shuffles it"
    )
