"""Mistakes that the schema finds, as `UserError`s with file, line, value and what is accepted."""

from __future__ import annotations

from typing import get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from pipelines.config.suggestions import one_of, perhaps, show
from pipelines.config.yaml_source import Document, KeyPath, Place
from pipelines.errors import UserError

# pydantic's error type -> what is accepted, filled in from the error's context
_ACCEPTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "string_pattern_mismatch": "{description}",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "tuple_type": "a list",
    "list_type": "a list",
    "greater_than": "above {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than": "below {lt:g}",
    "less_than_equal": "{le:g} or less",
    "too_short": "given, at least {min_length}",
}


def dotted(path: KeyPath) -> str:
    """Return a key path as written on the command line."""
    return ".".join(map(str, path))


def user_errors(error: ValidationError, document: Document, model: type[BaseModel]) -> list[UserError]:
    """Return every mistake that validation found in a document."""
    return [_user_error(item, document, model) for item in error.errors(include_url=False)]


def _user_error(item: ErrorDetails, document: Document, model: type[BaseModel]) -> UserError:
    # Where a setting has several forms, pydantic adds the name of the form, such as "(file)".
    path = tuple(key for key in item["loc"] if not str(key).startswith("("))
    kind, came = item["type"], item["input"]
    if path[-1:] == ("[key]",):
        where = document.place(path[:-1]).where
        return UserError(where, f"{path[-2]!r} cannot be a name", accepted="use letters, digits and _ . + -")
    place, key = document.place(path), dotted(path)
    if kind == "extra_forbidden":
        return unknown_key(place, path, model)
    if kind == "missing":
        wanted = _description(model, path)
        accepted = wanted if path[1:] else f"add it, or a file that states it: {wanted}"
        return UserError(place.where, f"{key} is missing", accepted=accepted)
    if kind == "value_error":
        return UserError(place.where, f"{key}: {item['ctx']['error']}", show(came))
    if kind == "literal_error":
        accepted = one_of(came, _choices(model, path))
        return UserError(place.where, f"{key} has an unknown value", show(came), accepted)
    context = {"description": _description(model, path)} | item.get("ctx", {})
    accepted = _ACCEPTED[kind].format(**context) if kind in _ACCEPTED else item["msg"]
    return UserError(
        place.where, f"{key} must be {accepted}", _came(place, came), _correction(kind, place, key, came)
    )


def _came(place: Place, came: object) -> str:
    spelt = place.text if isinstance(came, bool) and place.text is not None else show(came)
    return f"the boolean {spelt}" if isinstance(came, bool) else spelt


def _correction(kind: str, place: Place, key: str, came: object) -> str | None:
    """The text to write instead, where only the quotes are wrong."""
    if kind == "string_type" and isinstance(came, bool | int | float):
        text = place.text if place.text is not None else str(came)
        last = key.rpartition(".")[2]
        return f'write {last}: "{text}"' if place.line is not None else f"write '{key}=\"{text}\"'"
    if kind in ("int_type", "float_type") and isinstance(came, str) and came.replace(".", "", 1).isdigit():
        return "write it without quotes"
    return None


def unknown_key(place: Place, path: KeyPath, model: type[BaseModel]) -> UserError:
    """Return the error for an unknown key: suggest the section that has it, else a similar key here."""
    word, section = str(path[-1]), section_at(model, path[:-1])
    named = str(path[1]) if len(path) > 2 else "NAME"
    elsewhere = [dotted(found).replace("NAME", named) for found in _key_paths(model) if found[-1] == word]
    inside = f" in {dotted(path[:-1])}" if path[:-1] else ""
    if elsewhere:
        accepted = f"write {elsewhere[0]}"
    else:
        explained = "attnlab init prints every key with its meaning"
        accepted = perhaps(word, section.model_fields, "known keys", otherwise=explained)
    return UserError(place.where, f"unknown key {word!r}{inside}", accepted=accepted)


def section_at(model: type[BaseModel], path: KeyPath) -> type[BaseModel]:
    """Return the section of the schema at a key path; names of arms and positions in lists are skipped."""
    keys = iter(path)
    for key in keys:
        field = model.model_fields.get(str(key))
        if field is not None and _is_by_name(field.annotation):
            next(keys, None)
        model = (_section_in(field.annotation) if field else None) or model
    return model


def _is_by_name(annotation: object) -> bool:
    return get_origin(annotation) is dict and _section_in(annotation) is not None


def _section_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section_in(part))), None)


def _key_paths(model: type[BaseModel], path: KeyPath = ()) -> list[KeyPath]:
    found: list[KeyPath] = []
    for name, field in model.model_fields.items():
        inner = getattr(model, "settings_of", {}).get(name) or _section_in(field.annotation)
        below = (*path, name, "NAME") if _is_by_name(field.annotation) else (*path, name)
        found += [(*path, name), *(_key_paths(inner, below) if inner else [])]
    return found


def _field(model: type[BaseModel], path: KeyPath) -> FieldInfo | None:
    return section_at(model, path[:-1]).model_fields.get(str(path[-1])) if path else None


def _description(model: type[BaseModel], path: KeyPath) -> str | None:
    field = _field(model, path)
    return field.description if field else None


def _choices(model: type[BaseModel], path: KeyPath) -> list[str]:
    """The words that a setting, or an item of a list of them, may be."""
    while isinstance(path[-1], int):
        path = path[:-1]
    field = _field(model, path)
    return [choice for choice in _flat(field.annotation) if isinstance(choice, str)] if field else []


def _flat(annotation: object) -> list[object]:
    parts = get_args(annotation)
    return [choice for part in parts for choice in _flat(part)] if parts else [annotation]
