"""The examples on which sides are compared: their ids, clusters and references."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipelines.comparison.scored_run import hash_of_test, hashed
from pipelines.errors import UserError
from pipelines.predictions.outputs import Outputs, order
from pipelines.predictions.references import ReadTags, References
from pipelines.predictions.run_side import RunSide

DIFFER = "give predictions of the same examples"


@dataclass(frozen=True)
class Examples:
    """The examples of a comparison, in the order of their source."""

    where: str
    count: int
    ids: tuple[str, ...] | None  # None: known by their order
    clusters: tuple[str, ...] | None
    references: Sequence[Any] | None
    shown: Sequence[Any] | None  # what a file tells of each
    digest: str
    read_tags: ReadTags | None = None
    are_hashed: bool = False  # ids and clusters are hashes
    shown_in: str = ""  # the file that tells it

    @property
    def names(self) -> tuple[str, ...]:
        """An id for each example."""
        return self.ids if self.ids is not None else tuple(str(n) for n in range(1, self.count + 1))

    def places(self, other: Outputs) -> list[int]:
        """Return for each example its place in a file.

        Raises:
            UserError: the file is of other examples.
        """
        if self.are_hashed and other.ids is not None:
            other = replace(other, ids=tuple(map(hashed, other.ids)))
        places = order(self.ids, self.count, self.where, other)
        if self.shown is not None and other.shown is not None:
            for index, place in enumerate(places):
                if _differ(self.shown[index], other.shown[place]):
                    what = f"is another example than in {self.shown_in}: its question or target differs"
                    raise UserError(other.place(place), what, accepted=DIFFER)
        return places

    def told_by(self, files: Iterable[Outputs]) -> Examples:
        """Return the examples with what the first of some files tells of them, if they do not tell it.

        Raises:
            UserError: this file is of other examples.
        """
        first = next((one for one in files if one.shown is not None), None)
        if self.shown is not None or first is None or first.shown is None:
            return self
        shown = [first.shown[place] for place in self.places(first)]
        return replace(self, shown=shown, shown_in=first.where)


def _differ(one: Any, other: Any) -> bool:
    """Return whether two files tell other things of an example; of named ones, those that both tell."""
    if isinstance(one, dict) and isinstance(other, dict):
        return any(one[name] != other[name] for name in one.keys() & other.keys())
    return bool(one != other)


def of_references(found: References) -> Examples:
    """Return the examples of a file of references."""
    return Examples(
        where=found.where,
        count=len(found.values),
        ids=found.ids,
        clusters=found.clusters,
        references=found.values,
        shown=None,
        digest=found.digest,
        read_tags=found.read_tags,
    )


def of_run(side: RunSide) -> Examples:
    """Return the examples that a run was scored on."""
    run = side.run
    return Examples(
        where=run.label,
        count=len(run.ids),
        ids=side.ids,
        clusters=run.clusters,
        references=side.references,
        shown=None,
        digest=hash_of_test(run.manifest.get("data", {}), run.split) or _digest([run.ids, run.clusters]),
        are_hashed=run.names_are_hashes,
    )


def of_file(found: Outputs) -> Examples:
    """Return the examples of a file that holds scores, or predictions with their own clusters."""
    return Examples(
        where=found.where,
        count=found.count,
        ids=found.ids,
        clusters=found.clusters,
        references=None,
        shown=found.shown,
        shown_in=found.where,
        digest=_digest([found.count, found.ids, found.shown]),
    )


def require_same(examples: Examples, side: RunSide) -> None:
    """Refuse a run that was not scored on these examples.

    Raises:
        UserError: their number, their ids or their references differ.
    """
    run = side.run
    ids = side.ids
    if examples.count != len(run.ids):
        what, came = "have different numbers of examples", f"{len(run.ids):,} and {examples.count:,}"
        raise UserError(f"{run.label} and {examples.where}", what, came, DIFFER)
    if examples.ids is not None and ids is not None:
        mine, theirs = examples.ids, ids
        if examples.are_hashed != run.names_are_hashes:
            mine = mine if examples.are_hashed else tuple(map(hashed, mine))
            theirs = theirs if run.names_are_hashes else tuple(map(hashed, theirs))
        if mine != theirs:
            place = next(n for n, pair in enumerate(zip(mine, theirs)) if pair[0] != pair[1])
            what = f"was scored on other examples than {examples.where} has, from example {place + 1} on"
            raise UserError(run.label, what, accepted=DIFFER)
    if examples.references is None or side.references is None:
        return
    for place, pair in enumerate(zip(examples.references, side.references)):
        if _plain(pair[0]) != _plain(pair[1]):
            what = f"was scored against another reference than {examples.where} has for example {place + 1}"
            raise UserError(run.label, what, accepted="give the file that the run was scored on")


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
