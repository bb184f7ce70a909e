"""The JSON Schema of options: types and bounds, as the source of a task, variant or corpus declares them."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pipelines.registry import catalog
from pipelines.registry.catalog import EntryKind
from pipelines.registry.option_types import Items, Range, Rule

SIMPLE = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}
BOUNDS = {
    "at_least": "minimum",
    "above": "exclusiveMinimum",
    "at_most": "maximum",
    "below": "exclusiveMaximum",
    "multiple_of": "multipleOf",
}


def of_every(kind: EntryKind) -> dict[str, dict[str, Any]]:
    """Return the schema of the options of each entry of a kind, by its name."""
    return {name: _of_entry(kind, name) for name in catalog.names(kind)}


def by_name(schemas: Mapping[str, dict[str, Any]], below: str | None = None) -> list[dict[str, Any]]:
    """Return conditions on an object: by its `name`, the schema of its options.

    Args:
        below: the key that holds the options; None: the object holds them beside its name.
    """
    conditions = []
    for name, schema in schemas.items():
        beside = {**schema, "properties": {"name": {}, **schema["properties"]}}
        then = {"properties": {below: schema}} if below is not None else beside
        named = {"properties": {"name": {"const": name}}, "required": ["name"]}
        conditions.append({"if": named, "then": then})
    return conditions


def _of_entry(kind: EntryKind, name: str) -> dict[str, Any]:
    entry = catalog.find(kind, name)
    stated = entry.options if entry is not None else ()
    options = {one.name: {"description": one.meaning, **of_hint(one.hint)} for one in stated}
    return {"type": "object", "properties": options, "additionalProperties": False}


def of_hint(hint: object) -> dict[str, Any]:
    """Return the schema of a type hint; a bound that follows from another option is left out.

    YAML has only lists, so a tuple is an array.
    """
    origin, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is Annotated:
        schema = of_hint(inner[0])
        for rule in inner[1:]:
            schema |= _of_rule(rule)
        return schema
    if origin is typing.Literal:
        return {"enum": list(inner)}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [of_hint(part) for part in inner]}
    if isinstance(origin, type) and origin in SIMPLE:
        return {"type": SIMPLE[origin]}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", **({"additionalProperties": of_hint(inner[1])} if inner else {})}
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return {"type": "array", **_of_items(inner, is_tuple=origin is tuple)}
    return {}


def _of_items(inner: tuple[object, ...], *, is_tuple: bool) -> dict[str, Any]:
    if is_tuple and inner and inner[-1] is not Ellipsis:
        items = [of_hint(part) for part in inner]
        return {"prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    return {"items": of_hint(inner[0])} if inner else {}


def _of_rule(rule: Rule) -> dict[str, Any]:
    if isinstance(rule, Items):
        return {"minItems": rule.at_least, "uniqueItems": True}
    if not isinstance(rule, Range):
        return {}
    stated = {name: getattr(rule, name) for name in BOUNDS}
    return {BOUNDS[name]: bound for name, bound in stated.items() if isinstance(bound, int | float)}
