"""Read back what attnlab has written: every damage is one sentence with the file, what is wrong and a remedy.

A file may be missing, cut, of another kind, not readable, or foreign: a record of the Hub may hold anything.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError
from typing_extensions import is_typeddict

from pipelines.errors import UserError, as_clause

MOST_LEVELS = 64  # of objects and lists in each other; what attnlab writes has about ten
MOST_VALUES = 5_000_000  # aliases of YAML make a file of one line as large as one likes
SHOWN = 80  # characters of a value that is not accepted
T = TypeVar("T")


def is_there(path: Path) -> bool:
    """Return whether something has this name: a file, a folder, or a link to nothing."""
    return os.path.lexists(path)


def content(path: Path, remedy: str) -> bytes:
    """Return the bytes of a file.

    Args:
        remedy: what to do about a damaged file, as a clause.

    Raises:
        UserError: it is missing, is no file, or cannot be read.
    """
    if path.is_dir():
        raise UserError(str(path), "is a folder, not a file", accepted=remedy)
    if path.exists() and not path.is_file():  # it may have no end
        raise UserError(str(path), "is a pipe or a device, not a file", accepted=remedy)
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        what = "is a link to a file that is missing" if is_there(path) else "is missing"
        raise UserError(str(path), what, accepted=remedy) from error
    except OSError as error:
        what = f"cannot be read ({as_clause(OSError(error.strerror))})"
        raise UserError(str(path), what, accepted=remedy) from error


def text(path: Path, remedy: str) -> str:
    """Return the text of a UTF-8 file.

    Raises:
        UserError: as `content`, or it is not text.
    """
    try:
        return content(path, remedy).decode()
    except UnicodeDecodeError as error:
        raise UserError(str(path), f"is damaged: {as_clause(error)}", accepted=remedy) from error


def json_value(path: Path, remedy: str) -> Any:
    """Return the value in a JSON file.

    Raises:
        UserError: as `text`, or it is not JSON.
    """
    try:
        return _bounded(json.loads(text(path, remedy)))
    except (ValueError, RecursionError) as error:
        raise UserError(str(path), f"is damaged: {as_clause(error)}", accepted=remedy) from error


def json_object(path: Path, remedy: str, kind: type[T] | Any = dict[str, Any]) -> Any:
    """Return the object in a JSON file, whose entries are checked.

    Args:
        kind: a TypedDict, or another mapping; entries that it does not name are allowed.

    Raises:
        UserError: as `json_value`, or an entry is missing or has another type.
    """
    return _of_kind(json_value(path, remedy), kind, path, "JSON object", remedy)


def json_object_if_there(path: Path, remedy: str, kind: type[T] | Any = dict[str, Any]) -> Any:
    """Return the object in a JSON file, as `json_object`; None where there is nothing of this name."""
    return json_object(path, remedy, kind) if is_there(path) else None


def json_lines(path: Path, remedy: str, kind: type[T] | Any, *, cut: bool = False) -> list[dict[str, Any]]:
    """Return the objects in a file of one JSON object per line.

    Args:
        cut: a last line that is not complete is left out, because a kill may cut off a log.

    Raises:
        UserError: as `text`, or a line is no such object.
    """
    found = []
    lines = text(path, remedy).split("\n")
    if cut and lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, start=1):
        if not line and number == len(lines):
            break
        found.append(json_line(line, f"{path}, line {number}", remedy, kind))
    return found


def json_line(line: str, where: str, remedy: str, kind: type[T] | Any) -> dict[str, Any]:
    """Return the object in one line of such a file.

    Raises:
        UserError: it is no such object.
    """
    try:
        value = _bounded(json.loads(line))
    except (ValueError, RecursionError) as error:
        raise UserError(where, f"is damaged: {as_clause(error)}", accepted=remedy) from error
    found: dict[str, Any] = _of_kind(value, kind, where, "JSON object", remedy)
    return found


def yaml_mapping(path: Path, remedy: str) -> dict[str, Any]:
    """Return the settings in a YAML file.

    Raises:
        UserError: as `text`, or it is not YAML, or no settings.
    """
    try:
        value = _bounded(yaml.load(text(path, remedy), Loader=_StoredLoader))
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(str(path), f"is damaged: {as_clause(error)}", accepted=remedy) from error
    found: dict[str, Any] = _of_kind(value, dict[str, Any], path, "settings", remedy)
    return found


class _StoredLoader(yaml.SafeLoader):
    """A loader that refuses a key that is there twice: what attnlab writes has none."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        if len(found) < len(node.value):
            raise yaml.YAMLError(f"line {node.start_mark.line + 1} begins a mapping with one key twice")
        return found


def checked(kind: type[T], stored: object, where: str, remedy: str) -> T:
    """Return a value as a `kind`, a dataclass or a TypedDict, with every field checked at every level.

    Fields that the kind does not have are ignored: a newer attnlab may have written them.

    Args:
        where: the file it comes from, for the message.

    Raises:
        UserError: a field is missing or has another type; the first one is named.
    """
    try:
        found: T = _adapter(kind).validate_python(stored, strict=is_typeddict(kind))  # type: ignore[arg-type]  # classes are hashable
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        came = None if first["type"] == "missing" else repr(first["input"])[:SHOWN]
        what = f"the field {field} is {'missing' if came is None else 'not valid'}"
        raise UserError(where, what, came, remedy) from error
    return found


@cache  # milliseconds each, and a report reads a thousand manifests
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _of_kind(value: object, kind: type[T] | Any, where: object, word: str, remedy: str) -> Any:
    """Return a mapping as it came, its entries checked."""
    if not isinstance(value, Mapping):
        raise UserError(str(where), f"holds no {word}", type(value).__name__, remedy)
    checked(kind, value, str(where), remedy)
    return value


def _bounded(value: object) -> object:
    """Return a value whose levels and number can be walked through.

    Raises:
        ValueError: it has too many.
    """
    level, seen = [value] if isinstance(value, dict | list) else [], 0
    for _ in range(MOST_LEVELS):
        parts = (one.values() if isinstance(one, dict) else one for one in level)
        level = [one for one in chain.from_iterable(parts) if isinstance(one, dict | list)]
        seen += len(level)
        if not level:
            return value
        if seen > MOST_VALUES:
            break
    raise ValueError(f"more than {MOST_LEVELS} levels, or {MOST_VALUES:,} values")
