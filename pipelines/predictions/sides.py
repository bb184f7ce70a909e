"""The sides of a comparison: which files belong to each, its name, and how files are paired as seeds."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from pipelines.errors import UserError
from pipelines.hub.address import is_address
from pipelines.shown import plural

NAMED = re.compile(r"(?P<name>[\w][\w+-]*)=(?P<path>.+)", re.DOTALL)
WILD = re.compile(r"\*\*/?|\*|\?|\[[^\]]+\]")


@dataclass(frozen=True)
class Side:
    """One side: its name, and its files by what the wildcards of its pattern stand for."""

    name: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class Sides:
    """The sides, the baseline first; file n of each belongs to seed n."""

    sides: tuple[Side, ...]
    seeds: tuple[int, ...]
    note: str = ""  # how files are paired, where their names do not say it

    @property
    def baseline(self) -> Side:
        return self.sides[0]


def find(arguments: Sequence[str]) -> Sides:
    """Return the sides that paths, patterns and NAME=PATTERN give.

    Files of two sides with the same text in the place of the wildcards are one seed; where no texts agree,
    files are paired in the order of their names.

    Raises:
        UserError: fewer than two sides, a pattern without a file, or sides with other numbers of files.
    """
    if len(arguments) < 2:
        fix = "name the baseline and another: attnlab compare BASE OTHER"
        raise UserError("compare", "needs two sides or more", f"{len(arguments)}", fix)
    given = [_named(text) for text in arguments]
    called = [name or short for (name, _), short in zip(given, _short([path for _, path in given]))]
    twice = next((name for name in called if called.count(name) > 1), None)
    if twice is not None:
        fix = "give each side a name of its own: NAME=PATTERN"
        raise UserError("compare", "two sides have one name", twice, fix)
    sides = tuple(Side(name, _files(path)) for name, (_, path) in zip(called, given))
    return _paired(sides)


def _named(text: str) -> tuple[str | None, str]:
    found = NAMED.fullmatch(text)
    if found is None or os.path.exists(text):
        return None, text
    return found["name"], found["path"]


def _files(pattern: str) -> dict[str, str]:
    """Return the files of a pattern by what its wildcards stand for; of a path, the one file.

    Raises:
        UserError: no file fits.
    """
    if os.path.exists(pattern) or is_address(pattern) or not glob.has_magic(pattern):
        return {"": pattern}
    found = sorted(glob.glob(pattern, recursive=True), key=_natural)
    if not found:
        raise UserError(pattern, "fits no file", accepted="quote the pattern, and see what ls shows for it")
    whole = re.compile(_expression(pattern), re.DOTALL)
    keys = ["/".join(fit.groups()) if (fit := whole.fullmatch(path)) else path for path in found]
    return dict(zip(keys, found))


def _expression(pattern: str) -> str:
    """Return a regular expression with a group for each wildcard of a pattern."""
    parts, end = [], 0
    for wild in WILD.finditer(pattern):
        parts.append(re.escape(pattern[end : wild.start()]))
        text = wild.group()
        parts.append(
            "(.*)" if text.startswith("**") else {"*": "([^/]*)", "?": "([^/])"}.get(text, f"({text})")
        )
        end = wild.end()
    return "".join(parts) + re.escape(pattern[end:])


def _natural(text: str) -> list[tuple[int, str]]:
    """Return a sort key by which 2 comes before 10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", text)]


def _paired(sides: tuple[Side, ...]) -> Sides:
    counts = [len(side.files) for side in sides]
    if len(set(counts)) > 1:
        came = ", ".join(f"{side.name} {plural(count, 'file')}" for side, count in zip(sides, counts))
        fix = "give each the same number of seeds"
        raise UserError("compare", "the sides have different numbers of files", came, fix)
    first = sides[0]
    if all(side.files.keys() == first.files.keys() for side in sides):
        keys = list(first.files)
        ordered = tuple(Side(side.name, {key: side.files[key] for key in keys}) for side in sides)
        are_numbers = all(key.isdecimal() for key in keys) and len(set(map(int, keys))) == len(keys)
        return Sides(ordered, tuple(int(key) for key in keys) if are_numbers else _numbers(counts[0]))
    if any(side.files.keys() & first.files.keys() for side in sides[1:]):
        other = next(side for side in sides[1:] if side.files.keys() != first.files.keys())
        lone = next(iter(other.files.keys() ^ first.files.keys()))
        what = f"{first.name} and {other.name} share some seeds and not others, such as {lone}"
        raise UserError("compare", what, accepted="give each side the same seeds, or none in common")
    listed = "; ".join(f"{side.name} {', '.join(side.files)}" for side in sides)
    return Sides(sides, _numbers(counts[0]), f"files are paired in the order of their names ({listed})")


def _numbers(count: int) -> tuple[int, ...]:
    return tuple(range(1, count + 1))


def _short(paths: Sequence[str]) -> list[str]:
    """Return a name for each path: the parts between those that all share, without wildcards."""
    split = [list(PurePath(path.removeprefix("hub:")).parts) for path in paths]
    whole = [list(parts) for parts in split]
    for end in (0, -1):  # what all begin with, then what all end with
        while all(split) and len({parts[end] for parts in split}) == 1:
            for parts in split:
                parts.pop(end)
    names = []
    for path, parts, every in zip(paths, split, whole):
        last = len(parts) - 1 if parts and parts[-1] == every[-1] else None
        told = [_bare(part, is_last=place == last) for place, part in enumerate(parts)]
        names.append("/".join(filter(None, told)) or path)
    return names


def _bare(part: str, *, is_last: bool) -> str:
    """Return a part of a path without wildcards, the marks around them, and the suffixes of a file."""
    text = part.split(".")[0] if is_last and not part.startswith(".") else part
    return WILD.sub("", text).strip("-_. ")
