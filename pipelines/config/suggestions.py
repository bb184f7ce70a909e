"""What is accepted in place of a word that is not: the one that was perhaps meant, or all there are."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from typing import Any

LONGEST_LIST = 200  # characters of a list of all there are; a longer one hides the message

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60
_short.maxdict = _short.maxlist = _short.maxlevel = 3


def show(value: Any) -> str:
    """A value as a short text for a message."""
    return _short.repr(value)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that a misspelt one is nearest to: by initials, by its letters, as a part; or None."""
    known = list(known)
    near = [name for name in known if "".join(part[:1] for part in name.split("_")) == word]  # lr
    near += difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    near += [name for name in known if min(len(name), len(word)) > 3 and (name in word or word in name)]
    return near[0] if near else None


def perhaps(word: str, known: Iterable[str], kind: str, otherwise: str = "") -> str:
    """The nearest known word, else all of them as "kind: a, b", else `otherwise` where those are too many."""
    known = sorted(known)
    near = nearest(word, known)
    if near is not None:
        return f"perhaps {near} was meant"
    listing = f"{kind}: {', '.join(known)}" if known else f"no {kind} are known"
    return listing if len(listing) <= LONGEST_LIST or not otherwise else otherwise


def one_of(came: Any, choices: Iterable[Any]) -> str:
    """All choices, after the one that was perhaps meant."""
    words = [str(choice) for choice in choices]
    near = difflib.get_close_matches(came, words, n=1) if isinstance(came, str) else []
    return "; ".join([*(f"perhaps {word} was meant" for word in near), f"accepted: {', '.join(words)}"])
