"""Suggestions for an unknown word: the most similar known word, or all known words."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable

LONGEST_LIST = 200  # characters of a list of known words; a longer list would hide the message

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60
_short.maxdict = _short.maxlist = _short.maxlevel = 3


def show(value: object) -> str:
    """Return a value as a short text for a message."""
    return _short.repr(value)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word most similar to a misspelt one, by initials, letters or a common part."""
    known = list(known)
    near = [name for name in known if "".join(part[:1] for part in name.split("_")) == word]  # lr
    near += difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    near += [name for name in known if min(len(name), len(word)) > 3 and (name in word or word in name)]
    return near[0] if near else None


def perhaps(word: str, known: Iterable[str], kind: str, otherwise: str = "") -> str:
    """Return the most similar known word, else all as "kind: a, b", else `otherwise` where too many."""
    known = sorted(known)
    near = nearest(word, known)
    if near is not None:
        return f"perhaps {near} was meant"
    listing = f"{kind}: {', '.join(known)}" if known else f"no {kind} are known"
    return listing if len(listing) <= LONGEST_LIST or not otherwise else otherwise


def one_of(came: object, choices: Iterable[object]) -> str:
    """Return all choices, after the most similar one."""
    words = [str(choice) for choice in choices]
    near = difflib.get_close_matches(came, words, n=1) if isinstance(came, str) else []
    return "; ".join([*(f"perhaps {word} was meant" for word in near), f"accepted: {', '.join(words)}"])
