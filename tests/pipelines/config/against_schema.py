"""Hold a value against a JSON Schema: the part of the standard that ours use."""

from __future__ import annotations

import re
from typing import Any

TYPES: dict[str, Any] = {
    "object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool,
    "null": type(None),
}  # fmt: skip


def fault(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> str | None:
    """Return why a value breaks a JSON Schema; None where it does not."""
    if "$ref" in schema:
        target = root
        for key in schema["$ref"].removeprefix("#/").split("/"):
            target = target[key]
        return fault(value, target, root)
    faults = [fault(value, one, root) for one in schema.get("anyOf") or schema.get("oneOf") or []]
    if faults and all(faults):
        return f"none of anyOf: {faults}"
    for one in schema.get("allOf", []):
        if found := fault(value, one, root):
            return found
    if "if" in schema and fault(value, schema["if"], root) is None:
        return fault(value, schema["then"], root)
    if "const" in schema and value != schema["const"]:
        return f"{value!r} is not {schema['const']!r}"
    kinds = schema.get("type")
    if kinds and not any(_is(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        return f"{value!r} is no {kinds}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{value!r} not in {schema['enum']}"
    if isinstance(value, dict):
        return _object_fault(value, schema, root)
    if isinstance(value, list):
        return _list_fault(value, schema, root)
    if isinstance(value, str):
        matches = re.search(schema.get("pattern", ""), value) and len(value) >= schema.get("minLength", 0)
        return None if matches else f"{value!r} does not match"
    return _number_fault(value, schema)


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _number_fault(value: Any, schema: dict[str, Any]) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    inside = schema.get("minimum", value) <= value <= schema.get("maximum", value)
    above = value > schema.get("exclusiveMinimum", value - 1)
    below = value < schema.get("exclusiveMaximum", value + 1)
    whole = value % schema.get("multipleOf", 1) == 0 or "multipleOf" not in schema
    return None if inside and above and below and whole else f"{value} out of range"


def _list_fault(value: list, schema: dict[str, Any], root: dict[str, Any]) -> str | None:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        return f"{len(value)} items"
    if schema.get("uniqueItems") and any(item in value[:place] for place, item in enumerate(value)):
        return "an item twice"
    kinds = schema.get("prefixItems", [schema.get("items", {})] * len(value))
    return next(filter(None, (fault(item, kind, root) for item, kind in zip(value, kinds))), None)


def _object_fault(value: dict, schema: dict[str, Any], root: dict[str, Any]) -> str | None:
    if not schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", len(value)):
        return f"{len(value)} properties"
    if missing := [key for key in schema.get("required", []) if key not in value]:
        return f"{missing} missing"
    for key, item in value.items():
        patterns = [one for name, one in schema.get("patternProperties", {}).items() if re.search(name, key)]
        below = schema.get("properties", {}).get(
            key, patterns[0] if patterns else schema.get("additionalProperties")
        )
        if below is False:
            return f"unknown key {key}"
        if isinstance(below, dict) and (found := fault(item, below, root)):
            return f"{key}: {found}"
    return None
