"""The rule by which a value fits the declared type of an option, the same in Python calls and in YAML files.

Bounds are a part of the type: `Annotated[int, Range(at_least=1)]`. This file needs the standard library
only: `pipelines.registry` loads it alone, without the package around it, because the configuration must not
import torch.
"""

from __future__ import annotations

import importlib
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

Bound = float | str | None  # a number, or an option of the same call: "max_len", "num_buckets / 4"


@dataclass(frozen=True)
class Range:
    """Bounds of a number: each is a number, or follows from the value of another option."""

    at_least: Bound = None
    above: Bound = None
    at_most: Bound = None
    below: Bound = None
    multiple_of: int | None = None

    def holds(self, value: object, others: Mapping[str, object]) -> bool:
        """Return whether a value lies within the bounds; bounds that `others` does not know do not bind."""
        if not _is_number(value):
            return True
        bounds = (self.at_least, self.above, self.at_most, self.below)
        least, above, most, below = (_bound(bound, others) for bound in bounds)
        return (
            (least is None or value >= least)
            and (above is None or value > above)
            and (most is None or value <= most)
            and (below is None or value < below)
            and (self.multiple_of is None or value % self.multiple_of == 0)
        )

    def __str__(self) -> str:
        ends = {"at least": self.at_least, "above": self.above, "at most": self.at_most, "below": self.below}
        texts = {
            end: bound if isinstance(bound, str) else f"{bound:,}"
            for end, bound in ends.items()
            if bound is not None
        }
        match texts:
            case {"at least": least, "at most": most}:
                text = f"{least} to {most}"
            case {"at least": least, **others} if not others:
                text = f"{least} or more"
            case _:
                text = " and ".join(f"{end} {bound}" for end, bound in texts.items())
        return text if self.multiple_of is None else f"a multiple of {self.multiple_of}, {text}"


@dataclass(frozen=True)
class Items:
    """What the items of a list of texts must be, besides distinct and not empty."""

    at_least: int = 1
    pattern: str = "(?s).+"  # of each item, whole
    including: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    called: str = "distinct texts"

    def holds(self, value: object, others: Mapping[str, object]) -> bool:
        """Return whether a list is such; other values and lists of other items are not its concern."""
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            return True
        return (
            len(set(value)) == len(value) >= self.at_least
            and all(re.fullmatch(self.pattern, item) for item in value)
            and set(self.including) <= set(value)
            and not set(self.without) & set(value)
        )

    def __str__(self) -> str:
        return self.called


@dataclass(frozen=True)
class OnlyWith:
    """An option that has a meaning only where another one has one of these values."""

    option: str
    values: tuple[object, ...]

    def holds(self, value: object, others: Mapping[str, object]) -> bool:
        """Return whether nothing is given, or the other option has such a value."""
        return value is None or others.get(self.option) in self.values

    def __str__(self) -> str:
        values = ("true" if value is True else str(value) for value in self.values)
        return f"null, unless {self.option} is {' or '.join(values)}"


class Mistake(NamedTuple):
    """What is wrong inside a value: the name of its entry, the fault, what came, what is accepted."""

    name: str
    what: str
    came: object
    accepted: str


@dataclass(frozen=True)
class CheckedBy:
    """A mapping that a function knows: `function(value, others) -> Mistake | None`.

    Args:
        function: "package.module:name"; the module needs the standard library only.
    """

    function: str

    def mistake(self, value: object, others: Mapping[str, object]) -> Mistake | None:
        """Return the first mistake in a mapping; another value is not its concern."""
        if not isinstance(value, Mapping):
            return None
        module, _, name = self.function.partition(":")
        check: Any = getattr(importlib.import_module(module), name)
        return check(value, others)

    def holds(self, value: object, others: Mapping[str, object]) -> bool:
        return self.mistake(value, others) is None

    def __str__(self) -> str:
        return "names with values"


Rule = Range | Items | OnlyWith | CheckedBy
RULES = {rule.__name__: rule for rule in (Range, Items, OnlyWith, CheckedBy)}
Count = Annotated[int, Range(at_least=1)]
Share = Annotated[float, Range(at_least=0, at_most=1)]
ALIASES = {"Count": Count, "Share": Share}


def fits(value: object, hint: object) -> bool:
    """Return whether a value fits a type hint, bounds left aside (`broken` knows them).

    An int fits float, a bool fits only bool, and a list fits tuple and Sequence too, as YAML has only lists.
    A float must be finite. Items are checked. `Any` and what this module does not know take every value.
    """
    origin, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is Annotated:
        return fits(value, inner[0])
    if origin is typing.Literal:
        return any(value == choice and type(value) is type(choice) for choice in inner)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in inner)
    if origin is None or origin is types.NoneType:
        return value is None
    if origin is typing.Any or not isinstance(origin, type):
        return True
    if isinstance(value, bool):
        return origin is bool
    if issubclass(origin, Mapping):
        return (
            isinstance(value, Mapping) and _fit_all(value, inner[:1]) and _fit_all(value.values(), inner[1:])
        )
    if issubclass(origin, Sequence) and not issubclass(origin, str | bytes):
        return isinstance(value, list | tuple) and _items_fit(value, inner, is_tuple=origin is tuple)
    if origin is float:
        return _is_number(value)
    return isinstance(value, origin)


def broken(value: object, hint: object, others: Mapping[str, object]) -> Rule | None:
    """Return the first declared rule that a value of a fitting type breaks; None where it breaks none.

    Args:
        others: the values of all options, defaults included, by name.
    """
    return next((rule for rule in rules(hint) if not rule.holds(value, others)), None)


def rules(hint: object) -> list[Rule]:
    """Return the rules that a type hint declares, those of its parts included."""
    own = [part for part in typing.get_args(hint) if isinstance(part, Rule)]
    return own + [rule for part in typing.get_args(hint) for rule in rules(part)]


def choices(hint: object) -> list[object]:
    """Return the values that each `Literal[...]` in a type hint names; none where there is no Literal."""
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return list(inner)
    return [choice for part in inner for choice in choices(part)]


def shown(hint: object) -> str:
    """Return a type hint for a reader, without its rules: `int | None`."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return shown(inner[0])
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(shown, inner))
    if hint is types.NoneType:
        return "None"
    return hint.__name__ if isinstance(hint, type) and not inner else str(hint).removeprefix("typing.")


def _bound(bound: Bound, others: Mapping[str, object]) -> float | None:
    """The number that a bound is; None where it follows from an option that has no number."""
    if not isinstance(bound, str):
        return bound
    name, _, divisor = bound.partition(" / ")
    value = others.get(name)
    return value / int(divisor or 1) if _is_number(value) else None


def _is_number(value: object) -> typing.TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _items_fit(items: Sequence[object], inner: tuple[object, ...], *, is_tuple: bool) -> bool:
    if is_tuple and inner and inner[-1] is not Ellipsis:
        return len(items) == len(inner) and all(map(fits, items, inner))
    return _fit_all(items, inner[:1])


def _fit_all(items: Iterable[object], inner: tuple[object, ...]) -> bool:
    """Whether all items fit the one type of `inner`; every item does where it is empty."""
    return all(fits(item, hint) for item in items for hint in inner)
