"""Schemes of word tags (IOB1, IOB2, IOBES, BILOU, BMES, IOE, IO): found in the data, read as IOB2."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

OUTSIDE = "O"
STARTS, ENDS = "BSUW", "ESLUW"  # prefixes of the first and of the last word of an entity
PREFIXES = frozenset("BIM" + STARTS + ENDS)
RENAMED = {"S": "B", "U": "B", "W": "B", "E": "I", "L": "I", "M": "I"}
_LETTERS = "".join(sorted(PREFIXES))
OTHER_SPELLINGS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (rf"([{_LETTERS}])[-_.:/].+", rf".+[-_.:/]([{_LETTERS}])", rf"([{_LETTERS}])")
]
Tags = Sequence[str]


@dataclass(frozen=True)
class Scheme:
    """A scheme that a source uses, a note where it was changed or is unclear, and its reading as IOB2."""

    name: str
    note: str | None
    read: Callable[[Tags], list[str]]


def has_prefix(tag: str) -> bool:
    """Return whether a tag is a prefix and a type, such as B-PER."""
    return len(tag) > 2 and tag[0] in PREFIXES and tag[1] == "-"


def scheme_of(sentences: Iterable[Tags]) -> Scheme:
    """Return the scheme that all sentences of a source share.

    IOB1 uses B- only where an entity touches one of its own type. So a source is IOB1 if every B- is such a
    case and some entity begins with I-. IOB2 begins every entity with B-. A mixture is left as it is. Tags
    without any prefix are IO if O is among them: neighbours with one tag are one entity.
    """
    prefixes: set[str] = set()
    bare: set[str] = set()
    loose = iob1_only = iob2_only = 0
    neighbours = Counter(chain.from_iterable(zip([OUTSIDE, *tags], tags) for tags in sentences))
    for (before, tag), count in neighbours.items():
        if not has_prefix(tag):
            bare.add(tag)
            continue
        prefixes.add(tag[0])
        touches = before[1:] == tag[1:] and before != OUTSIDE
        loose += count * (tag[0] == "I" and not touches)
        iob2_only += count * (tag[0] == "B" and not touches)
        iob1_only += count * (tag[0] == "B" and touches)
    if not prefixes:
        return _without_prefixes(bare)
    if prefixes <= {"I", "E"} and "E" in prefixes:
        return _changed("IOE", _from_runs)
    if prefixes & set(RENAMED):
        name = "BILOU" if prefixes & set("LU") else "BMES" if prefixes & set("MW") else "IOBES"
        return _changed(name, _renamed)
    if not loose:
        return Scheme("IOB2", None, list)
    if iob2_only:
        mixed = f"{loose:,} entities begin with I-, {iob1_only + iob2_only:,} with B-"
        return Scheme("mixed", f"{mixed}: the tags were left as they are", list)
    return _changed("IOB1", _from_runs)


def _without_prefixes(tags: set[str]) -> Scheme:
    if not tags:
        return Scheme("numbers", None, list)  # no row has texts
    if tags <= {OUTSIDE}:
        return Scheme("only O", None, list)
    if OUTSIDE not in tags or _spelled_otherwise(tags - {OUTSIDE}):
        return Scheme("unknown", None, list)  # parts of speech, for example: the task refuses them
    note = "tags without B- and I- were read as IO: neighbouring words with one tag are one entity"
    return Scheme("IO", note, _from_bare)


def _spelled_otherwise(tags: set[str]) -> bool:
    """Return whether all tags have a prefix in another spelling, such as b-per, B_PER or PER-B."""
    found = [pattern for pattern in OTHER_SPELLINGS if all(map(pattern.fullmatch, tags))]
    return any("B" in {pattern.sub(r"\1", tag).upper() for tag in tags} for pattern in found)


def _changed(name: str, read: Callable[[Tags], list[str]]) -> Scheme:
    return Scheme(name, f"{name} tags were read as IOB2", read)


def _renamed(tags: Tags) -> list[str]:
    return [RENAMED.get(tag[0], tag[0]) + tag[1:] if has_prefix(tag) else tag for tag in tags]


def _from_runs(tags: Tags) -> list[str]:
    """Begin an entity at B-, after O, after another type and after the end of one."""
    return [
        tag
        if not has_prefix(tag)
        else ("B" if tag[0] == "B" or before[1:] != tag[1:] or before[0] == "E" else "I") + tag[1:]
        for before, tag in zip([OUTSIDE, *tags], tags)
    ]


def _from_bare(tags: Tags) -> list[str]:
    return [
        tag if tag == OUTSIDE else f"{'I' if before == tag else 'B'}-{tag}"
        for before, tag in zip([OUTSIDE, *tags], tags)
    ]
