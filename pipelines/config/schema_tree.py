"""The schema as a tree: the section and the field at a key path, and all key paths."""

from __future__ import annotations

from typing import get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipelines.config.yaml_source import KeyPath


def dotted(path: KeyPath) -> str:
    """Return a key path as written on the command line."""
    return ".".join(map(str, path))


def section_at(model: type[BaseModel], path: KeyPath) -> type[BaseModel]:
    """Return the section of the schema at a key path; names of arms and positions in lists are skipped."""
    keys = iter(path)
    for key in keys:
        field = model.model_fields.get(str(key))
        if field is not None and _is_by_name(field.annotation):
            next(keys, None)
        model = (section_in(field.annotation) if field else None) or model
    return model


def field_at(model: type[BaseModel], path: KeyPath) -> FieldInfo | None:
    """Return the field of a setting; None where the path leads to none."""
    return section_at(model, path[:-1]).model_fields.get(str(path[-1])) if path else None


def is_setting(model: type[BaseModel], path: KeyPath) -> bool:
    """Return whether a path is that of a setting, or of an entry of a mapping such as `margin.f1`."""
    if path[0] == "task" and len(path) == 2:  # an option, in the short form that YAML has
        path = ("task", "options", path[1])
    above = [path[:length] for length in range(1, len(path) + 1)]
    for one in above:
        field = field_at(model, one)
        if field is None:
            return False
        if get_origin(field.annotation) is dict:
            return len(one) < len(path) or one == path
    return True


def key_paths(model: type[BaseModel], path: KeyPath = ()) -> list[KeyPath]:
    """Return the paths of all settings; NAME stands for the name of an arm or a cell."""
    found: list[KeyPath] = []
    for name, field in model.model_fields.items():
        inner = getattr(model, "settings_of", {}).get(name) or section_in(field.annotation)
        below = (*path, name, "NAME") if _is_by_name(field.annotation) else (*path, name)
        found += [(*path, name), *(key_paths(inner, below) if inner else [])]
    return found


def section_in(annotation: object) -> type[BaseModel] | None:
    """Return the section that an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := section_in(part))), None)


def _is_by_name(annotation: object) -> bool:
    return get_origin(annotation) is dict and section_in(annotation) is not None
