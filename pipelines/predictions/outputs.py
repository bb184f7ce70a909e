"""What a file of another program holds of each example, whatever its format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.errors import UserError
from pipelines.shown import plural

MOST_NAMES = 20  # of scores, in a message


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The predictions and scores in a file, in its order."""

    where: str
    layout: str  # what it was read as, for the reader of the results
    count: int
    ids: tuple[str, ...] | None = None  # None: examples are known by their order
    predictions: Sequence[Any] | None = None
    no_predictions: str = "it holds no predictions"  # why there are none, as a clause
    scores: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    shown: Sequence[Any] | None = None  # what the file tells of each example; equal for equal examples
    clusters: tuple[str, ...] | None = None
    may_end_empty: bool = False  # text that ends in a line feed: an empty prediction may follow it
    notes: Sequence[str] = ()

    def place(self, index: int) -> str:
        """Return the file and the example at an index (from 0), for messages."""
        name = f"id {self.ids[index]}" if self.ids is not None else f"example {index + 1}"
        return f"{self.where}, {name}"

    def score(self, name: str) -> Sequence[Any]:
        """Return the values of a score.

        Raises:
            UserError: the file has no such score.
        """
        if name not in self.scores:
            there = ", ".join(list(self.scores)[:MOST_NAMES]) or "none"
            raise UserError(self.where, f"has no score {name!r}", accepted=f"its scores: {there}")
        return self.scores[name]


def require_distinct(ids: Iterable[str], where: str) -> None:
    """Refuse a file in which an id occurs twice.

    Raises:
        UserError: names the first.
    """
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            fix = "leave one of them, or name another column with --id"
            raise UserError(where, f"has the id {name!r} twice", accepted=fix)
        seen.add(name)


def order(known: tuple[str, ...] | None, count: int, where: str, other: Outputs) -> list[int]:
    """Return for each example its place in another file: by id where both have ids, else by order.

    Args:
        known: the ids of the examples; None: they are known by their order alone.
        where: the file that the examples are from.

    Raises:
        UserError: ids or counts differ.
    """
    pair = f"{other.where} and {where}"
    if known is not None and other.ids is not None:
        return _by_id(known, other.ids, other.where, where)
    if other.count != count:
        came = f"{other.count:,} and {count:,}"
        fix = "give predictions of the same examples in the same order, or ids in both"
        raise UserError(pair, "have different numbers of examples", came, fix)
    if known is None and other.ids is not None:
        return _by_number(other.ids, pair)
    return list(range(count))


def _by_id(known: tuple[str, ...], ids: tuple[str, ...], file: str, where: str) -> list[int]:
    places, wanted = {name: place for place, name in enumerate(ids)}, set(known)
    missing = [name for name in known if name not in places]
    more = [name for name in ids if name not in wanted]
    if missing or more:
        parts = [f"lacks {plural(len(missing), 'id')} of {where} (such as {missing[0]!r})"] if missing else []
        parts += [f"has {plural(len(more), 'id')} that {where} has not (such as {more[0]!r})"] if more else []
        raise UserError(file, " and ".join(parts), accepted="give predictions of the same examples")
    return [places[name] for name in known]


def _by_number(ids: tuple[str, ...], pair: str) -> list[int]:
    """Return the order of ids that number the examples, from 0 or 1."""
    for first in (0, 1):
        if _are_numbers(ids, first):
            places = {int(name): place for place, name in enumerate(ids)}
            return [places[number] for number in range(first, first + len(ids))]
    fix = "give ids in both, or in neither"
    raise UserError(pair, "only the first has ids, and they do not number the examples", ids[0], fix)


def _are_numbers(ids: Sequence[str], first: int) -> bool:
    """Return whether ids are the numbers from `first` on, in any order."""
    numbers = {int(name) for name in ids if name.isdecimal()}
    return numbers == set(range(first, first + len(ids)))
