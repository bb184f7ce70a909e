"""Mistakes that the schema finds, as `UserError`s with file, line, value and what is accepted."""

from __future__ import annotations

from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipelines.config import known_names
from pipelines.config.schema_tree import dotted, field_at, key_paths, section_at
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

SEVERAL_SEEDS = (
    "several seeds are an ablation, of one arm too, which attnlab ablate trains, resumes and reports: "
    "cells: {{mine: [FILE]}}, arms: {{mine: [gate]}}, baseline: mine, seeds: {}"
)


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
        return unknown_key(document, path, model)
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
    instead = _correction(kind, place, key, came) or known_names.for_value(document, path)
    return UserError(place.where, f"{key} must be {accepted}", _came(place, came), instead)


def _came(place: Place, came: object) -> str:
    spelt = place.text if isinstance(came, bool) and place.text is not None else show(came)
    return f"the boolean {spelt}" if isinstance(came, bool) else spelt


def _correction(kind: str, place: Place, key: str, came: object) -> str | None:
    """The text to write instead, where only the quotes are wrong."""
    if kind == "string_type" and isinstance(came, bool | int | float):
        text = place.text if place.text is not None else str(came)
        last = key.rpartition(".")[2]
        return f'write {last}: "{text}"' if place.line is not None else f"write '{key}=\"{text}\"'"
    if kind == "int_type" and key == "seed" and isinstance(came, list):
        return SEVERAL_SEEDS.format(came)
    if kind in ("int_type", "float_type") and isinstance(came, str) and came.replace(".", "", 1).isdigit():
        return "write it without quotes"
    return None


def unknown_key(document: Document, path: KeyPath, model: type[BaseModel]) -> UserError:
    """Return the error for an unknown key: the section that has it, its name here, or a similar key."""
    word, section = str(path[-1]), section_at(model, path[:-1])
    named = str(path[1]) if len(path) > 2 else "NAME"
    elsewhere = [dotted(found).replace("NAME", named) for found in key_paths(model) if found[-1] == word]
    inside = f" in {dotted(path[:-1])}" if path[:-1] else ""
    below = "set" if path == (word,) and "set" in model.model_fields else None
    if elsewhere:
        accepted = f"write {elsewhere[0]}"
    elif (known := known_names.answer(document, path, below)) is not None:
        accepted = known
    else:
        explained = "attnlab init prints every key with its meaning"
        accepted = perhaps(word, section.model_fields, "known keys", otherwise=explained)
    return UserError(document.place(path).where, f"unknown key {word!r}{inside}", accepted=accepted)


def _description(model: type[BaseModel], path: KeyPath) -> str | None:
    """The description of a setting, or of the list that an item is in."""
    while isinstance(path[-1], int):
        path = path[:-1]
    field = field_at(model, path)
    return field.description if field else None


def _choices(model: type[BaseModel], path: KeyPath) -> list[str]:
    """The words that a setting, or an item of a list of them, may be."""
    while isinstance(path[-1], int):
        path = path[:-1]
    field = field_at(model, path)
    return [choice for choice in _flat(field.annotation) if isinstance(choice, str)] if field else []


def _flat(annotation: object) -> list[object]:
    parts = get_args(annotation)
    return [choice for part in parts for choice in _flat(part)] if parts else [annotation]
