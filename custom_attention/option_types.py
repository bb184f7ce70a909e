"""The rule by which a value fits the type of an option, the same in Python calls and in YAML files.

It needs the standard library only: `pipelines.registry` loads this file alone, without the package around
it, because the configuration must not import torch.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping, Sequence


def fits(value: object, hint: object) -> bool:
    """Return whether a value fits a type hint.

    An int fits float, a bool fits only bool, and a list fits tuple and Sequence too, as YAML has only lists.
    Items are checked. `Any` and what this module does not know take every value.
    """
    origin, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
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
    return isinstance(value, (int, float) if origin is float else origin)


def choices(hint: object) -> list[object]:
    """Return the values that each `Literal[...]` in a type hint names; none where there is no Literal."""
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return list(inner)
    return [choice for part in inner for choice in choices(part)]


def _items_fit(items: Sequence[object], inner: tuple[object, ...], *, is_tuple: bool) -> bool:
    if is_tuple and inner and inner[-1] is not Ellipsis:
        return len(items) == len(inner) and all(map(fits, items, inner))
    return _fit_all(items, inner[:1])


def _fit_all(items: Iterable[object], inner: tuple[object, ...]) -> bool:
    """Whether all items fit the one type of `inner`; every item does where it is empty."""
    return all(fits(item, hint) for item in items for hint in inner)
