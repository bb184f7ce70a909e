"""A random split of one source (`data.split`): stratified by label, and nothing in two splits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipelines.config.data import SplitSpec
from pipelines.data.content import digest_of
from pipelines.errors import UserError
from pipelines.shown import plural
from pipelines.tasks.base import Example, Task

SCARCE = "; train keeps a row with each label (numbers to predict: task.kind: regression)"


@dataclass
class Group:
    """Rows that stay together, of one cluster or with equal inputs; the labels of the first, and of all."""

    key: bytes
    stratum: list[str]
    labels: set[str] = field(default_factory=set)
    rows: list[int] = field(default_factory=list)


def partition(examples: Sequence[Example], spec: SplitSpec, task: Task, where: str) -> dict[str, list[int]]:
    """Return the places of the examples of each split, in the order of the source.

    Which split a row is in follows from the seed and its content, not from its place in the file. Of the
    rows with the same labels a share goes to each split, and every label to train.

    Raises:
        UserError: a split would have no rows.
    """
    groups = _groups(examples, task)
    groups.sort(key=lambda group: (group.stratum, _drawn(spec.seed, group.key)))
    found: dict[str, list[int]] = {}
    left, taken = groups, 0.0
    for split, share in (("test", spec.test), ("validation", spec.validation)):
        if share:
            part, left = _take(left, share / (1 - taken))
            taken += share
            found[split] = sorted(row for group in part for row in group.rows)
            if not part:
                what = f"no row of {where} is left for {split}"
                came = f"{share:g} of {plural(len(examples), 'row')} in {plural(len(groups), 'group')}"
                labels = len({label for group in groups for label in group.labels})
                came += f" with {labels:,} different labels" if labels > 1 else ""
                fix = "raise it, or give more rows" + (SCARCE if 2 * labels > len(groups) > 1 else "")
                raise UserError(f"data.split.{split}", what, came, fix)
    found["train"] = sorted(row for group in left for row in group.rows)
    return found


def _groups(examples: Sequence[Example], task: Task) -> list[Group]:
    inputs = [name for name, column in task.columns.items() if not column.is_target]
    groups: dict[bytes, Group] = {}
    for place, example in enumerate(examples):
        cluster = task.cluster(example)
        if cluster == example["id"]:  # no cluster: rows with equal inputs belong together
            key = digest_of({name: example[name] for name in inputs if name in example})
        else:
            key = cluster.encode("utf-8", "surrogatepass")
        labels = task.stratum(example) or frozenset()
        group = groups.setdefault(key, Group(key, sorted(labels)))
        group.rows.append(place)
        group.labels |= labels
    return list(groups.values())


def _drawn(seed: int, key: bytes) -> bytes:
    return hashlib.sha256(f"split {seed} ".encode() + key).digest()


def _take(groups: Sequence[Group], share: float) -> tuple[list[Group], list[Group]]:
    """Return a share of the rows of every stratum, and the rest, which has the first group with each label.

    What rounding owes to one stratum is paid by the next, so that the total is right too.
    """
    taken: list[Group] = []
    rest: list[Group] = []
    owed, known = 0.0, set[str]()
    for place, group in enumerate(groups):
        size = len(group.rows)
        owed += size * share
        if not place or not group.labels <= known or owed < size / 2:
            rest.append(group)
            known |= group.labels
        else:
            taken.append(group)
            owed -= size
    return taken, rest
