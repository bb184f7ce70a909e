"""YAML files and `key.path=value` overrides, merged into plain values of which each knows its place."""

from __future__ import annotations

import copy
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from pipelines.errors import UserError, raise_all

KeyPath = tuple[str | int, ...]
Scalar = str | int | float | bool | None
MAX_DEPTH = 64  # of nested lists and mappings
MAX_DIGITS = 19  # of 2 ** 63
MAX_NODES = 100_000  # far above any real configuration; aliases can make a small file endless
OF_DATA = frozenset(
    [".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".txt", ".conll", ".conllu", ".iob", ".iob2", ".bio"]
)
TOO_DEEP = f"lists and mappings are nested deeper than {MAX_DEPTH}"


@dataclass(frozen=True)
class Place:
    """Where a value was written, the folder of its relative paths, and its text.

    `line` is None for an override, whose `name` is its whole text; `text` is None for a list or a mapping.
    """

    name: str
    line: int | None
    folder: Path
    text: str | None = None

    @property
    def where(self) -> str:
        return self.name if self.line is None else f"{self.name}:{self.line}"


@dataclass(frozen=True)
class Document:
    """A plain value (mappings, lists, text, numbers, true, false, null) and the place of every part of it."""

    value: Any
    places: Mapping[KeyPath, Place]

    def place(self, path: KeyPath = ()) -> Place:
        """Return the place of a part, or of its nearest ancestor where the part does not exist."""
        while path not in self.places:
            path = path[:-1]
        return self.places[path]

    def get(self, path: KeyPath, default: Any = None) -> Any:
        """Return the value of a part, or `default` where the document has no such part."""
        value = self.value
        for key in path:
            inside = isinstance(value, dict) and key in value
            if not inside and not (isinstance(value, list) and isinstance(key, int) and key < len(value)):
                return default
            value = value[key]
        return value

    def part(self, path: KeyPath) -> Document:
        """Return the part at `path` as a document of its own."""
        places = {key[len(path) :]: place for key, place in self.places.items() if key[: len(path)] == path}
        return Document(self.get(path), {(): self.place(path), **places})

    def under(self, key: str | int) -> Document:
        """Return a mapping with this document as its only entry; for key 0, a list of this document."""
        places = {(key, *path): place for path, place in self.places.items()}
        return Document([self.value] if key == 0 else {key: self.value}, {(): self.place()} | places)

    def replaced(self, path: KeyPath, part: Document) -> Document:
        """Return this document with the part at `path`, which must exist, replaced by another."""
        if not path:
            return part
        head, below = path[0], self.part(path[:1]).replaced(path[1:], part)
        value = copy.copy(self.value)
        value[head] = below.value
        kept = {key: place for key, place in self.places.items() if key[:1] != (head,)}
        return Document(value, {**kept, **below.under(head).places, (): self.place()})


# ---- reading


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the values of YAML 1.2: `2e-5` is a number, `010` is 10, a date is text.

    `yes`, `no`, `on` and `off` stay booleans as in YAML 1.1, because other readers take them so; the schema
    refuses them where a text is required.
    """

    yaml_implicit_resolvers: Mapping[str, list[Any]] = {}  # replaces those of YAML 1.1
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node with its content; one nested too deeply is an error, before Python's own limit."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(None, None, TOO_DEEP, self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


for _tag, _pattern, _starts in (
    ("bool", r"true|false|yes|no|on|off", "tTfFyYnNoO"),
    ("null", r"~|null|", "~nN"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.inf|\.nan", "-+."),
):
    _match = re.compile(rf"^(?:{_pattern})$", re.IGNORECASE)
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _match, [*_starts, *([""] * (_tag == "null"))])

INT = "tag:yaml.org,2002:int"
NO_TEXT = re.compile("[\0\ud800-\udfff]")  # a null byte, or half a character
_SCALARS: Mapping[str, Callable[[str], Scalar]] = {
    "tag:yaml.org,2002:str": str,
    "tag:yaml.org,2002:null": lambda text: None,
    "tag:yaml.org,2002:bool": lambda text: text.lower() in ("true", "yes", "on"),
    INT: int,
    "tag:yaml.org,2002:float": lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan")),
}


def read(file: str | os.PathLike[str]) -> Document:
    """Read one YAML file.

    Raises:
        UserError: the file is missing, empty, not UTF-8 text, not YAML, data, or repeats a key.
    """
    name, path = os.fspath(file), Path(file)
    if path.suffix.lower() in OF_DATA and path.is_file():
        fix = f"attnlab init --data {name} > my.yaml writes settings for it"
        raise UserError(name, "is data, not settings", accepted=fix)
    if path.is_char_device() or path.is_block_device():  # it may have no end
        raise UserError(name, "is a device, not a file", accepted="name a YAML file")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(name, "no such file") from None
    except IsADirectoryError:
        raise UserError(name, "is a folder", accepted="name a YAML file") from None
    except UnicodeDecodeError as error:
        raise UserError(name, "is not UTF-8 text", f"byte {error.start}", "save it as UTF-8") from None
    except OSError as error:
        raise UserError(name, "cannot be read", error.strerror) from None
    except ValueError:  # open() refuses a null byte
        raise UserError(name, "is no name of a file") from None
    return _parse(text, lambda line: Place(name, line, path.resolve().parent))


def override(text: str, folder: Path | None = None) -> Document:
    """Read one `key.path=value` of the command line; the value is YAML and every place is the text itself.

    Raises:
        UserError: the key or the value is missing, or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    keys = key.split(".")
    if not equals or not all(keys) or any(character.isspace() for character in key):
        raise UserError(text, "is neither a file nor an override", accepted="write key.path=value")
    if len(keys) > MAX_DEPTH:
        raise UserError(text, f"its key has {len(keys)} parts", accepted=f"at most {MAX_DEPTH}")
    if not value.strip():
        raise UserError(text, f"{key} has no value", accepted=f"write {key}=null to unset it")
    document = _parse(value, lambda line: Place(text, None, folder or Path.cwd()))
    for name in reversed(keys):
        document = document.under(name)
    return document


def _parse(text: str, place_of: Callable[[int], Place]) -> Document:
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise _syntax_error(error, place_of) from None
    if root is None:
        raise UserError(
            place_of(1).where, "the file is empty", accepted="write settings as `key: value` lines"
        )
    reader = _Reader(place_of)
    value = reader.value(root, ())
    raise_all(reader.errors)
    return Document(value, {(): replace(reader.place(root, root), line=place_of(1).line)} | reader.places)


def _syntax_error(error: yaml.YAMLError, place_of: Callable[[int], Place]) -> UserError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line = mark.line + 1 if mark else 1
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
    if "'\\t'" in problem:
        return UserError(place_of(line).where, "a tab is used for indentation", accepted="use spaces")
    context = getattr(error, "context", None)
    came = f"{problem}, {context}" if context else problem
    return UserError(
        place_of(line).where, "is not valid YAML", came, "check the indentation, colons and brackets"
    )


class _Reader:
    """Turns YAML nodes into plain values and collects the places and all mistakes."""

    def __init__(self, place_of: Callable[[int], Place]) -> None:
        self.place_of = place_of
        self.places: dict[KeyPath, Place] = {}
        self.errors: list[UserError] = []
        self.open: list[yaml.Node] = []  # the nodes around this one: an alias to one of them is endless
        self.count = 0

    def where(self, node: yaml.Node) -> str:
        return self.place(node).where

    def place(self, key: yaml.Node, value: yaml.Node | None = None) -> Place:
        text = value.value if isinstance(value, yaml.ScalarNode) else None
        return replace(self.place_of(key.start_mark.line + 1), text=text)

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self.count += 1
        if self.count > MAX_NODES or node in self.open:
            raise UserError(
                self.where(node), "an alias makes the file endless", accepted="write the value out"
            )
        if len(self.open) == MAX_DEPTH:
            raise UserError(self.where(node), TOO_DEEP, accepted="write it in fewer levels")
        self.open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self.item(child, (*path, index)) for index, child in enumerate(node.value)]
            return self.scalar(node)
        finally:
            self.open.pop()

    def item(self, node: yaml.Node, path: KeyPath) -> Any:
        self.places[path] = self.place(node, node)
        return self.value(node, path)

    def mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            where = self.where(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self.errors.append(UserError(where, "a key must be a word", "a list or a mapping"))
                continue
            key = key_node.value
            if key == "<<":
                self.errors.append(
                    UserError(where, "merge keys (<<) are not supported", accepted="list several files")
                )
                continue
            if key in result:
                first = self.places[(*path, key)].where
                self.errors.append(
                    UserError(where, f"the key {key!r} is set twice", accepted=f"the first is at {first}")
                )
                continue
            self.places[(*path, key)] = self.place(key_node, value_node)
            result[key] = self.value(value_node, (*path, key))
        return result

    def scalar(self, node: yaml.ScalarNode) -> Scalar:
        if node.tag == INT and _is_too_long(node.value):
            self.errors.append(UserError(self.where(node), "a whole number must fit 64 bits", node.value))
            return None
        convert = _SCALARS.get(node.tag)
        try:
            value = convert(node.value) if convert else None
        except ValueError:
            convert = None
        if convert is None:
            self.errors.append(
                UserError(self.where(node), f"the tag {node.tag!r} is not supported", node.value)
            )
            return None
        if isinstance(value, str) and NO_TEXT.search(value):
            self.errors.append(
                UserError(self.where(node), "a text has a character that no file name has", repr(value))
            )
        if isinstance(value, float) and not math.isfinite(value):
            self.errors.append(UserError(self.where(node), "a number must be finite", node.value))
        return value


def _is_too_long(digits: str) -> bool:
    """Whether a text is a whole number beyond 64 bits; Python itself refuses to read thousands of digits."""
    short = digits.lstrip("+-0")
    return short.isdecimal() and (len(short) > MAX_DIGITS or int(short).bit_length() > 63)


# ---- merging


def merge(documents: Sequence[Document]) -> Document:
    """Merge left to right: mappings key by key at every depth; a later value replaces any other."""
    value, places = documents[0].value, dict(documents[0].places)
    for later in documents[1:]:
        value = _merge(value, later.value, (), places, later.places)
    files = [place.name for document in documents if (place := document.place()).line is not None]
    places[()] = (
        replace(places[()], name=", ".join(files), line=None) if len(files) > 1 else documents[0].place()
    )
    return Document(value, places)


def merge_values(base: Any, later: Any) -> Any:
    """Merge two plain values as `merge` does."""
    return _merge(base, later, (), {}, {})


def _merge(
    base: Any, later: Any, path: KeyPath, places: dict[KeyPath, Place], later_places: Mapping[KeyPath, Place]
) -> Any:
    if path in later_places:
        places[path] = later_places[path]
    if isinstance(base, dict) and isinstance(later, dict):
        merged = dict(base)
        for key, value in later.items():
            below = (*path, key)
            merged[key] = _merge(base.get(key), value, below, places, later_places)
        return merged
    for old in _below(path, places):
        del places[old]
    places.update({new: later_places[new] for new in _below(path, later_places)})
    return later


def _below(path: KeyPath, places: Iterable[KeyPath]) -> list[KeyPath]:
    return [other for other in places if len(other) > len(path) and other[: len(path)] == path]
