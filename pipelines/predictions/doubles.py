"""Refuse files that are no seeds of their own, or that give one score in two units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

from pipelines.errors import UserError
from pipelines.hub.address import is_address
from pipelines.predictions.scored import ScoredFile

At = tuple[str, str]  # side, and what the wildcards of its pattern stand for
LIKELY = 5  # times, between the means of two files once both are fractions
IN_PER_CENT = 10  # a score above it is none of 0 to 1
FEW = 20  # examples on which two seeds may agree by chance


def refuse(texts: Mapping[At, str], contents: Mapping[At, str]) -> None:
    """Refuse one file under two names (a link is one), and a seed that is a copy of another.

    Args:
        texts: the path or address of each file.
        contents: a hash of what each holds; of a run, that of what it is, so that a repetition is a copy.

    Raises:
        UserError: names both.
    """
    for one, other in combinations(texts, 2):
        if _place(texts[one]) == _place(texts[other]):
            fix = "give each side and seed a file of its own"
            raise UserError(f"{texts[one]} and {texts[other]}", "are one file", accepted=fix)
        if one[0] == other[0] and contents[one] == contents[other]:
            what = f"holds what {texts[one]} holds: a copy is no seed of its own"
            raise UserError(texts[other], what, accepted="give every seed once")


def _place(text: str) -> object:
    """Return what is the same for every name of one file or folder: symbolic links and hard ones."""
    if is_address(text):
        return text
    found = Path(text).stat()
    return found.st_dev, found.st_ino


def alike(side: str, scored: Sequence[ScoredFile]) -> Iterator[str]:
    """Yield which seeds of a side have the same predictions, as clauses: other bytes may be a copy too."""
    for (n, one), (m, other) in combinations(enumerate(scored, start=1), 2):
        known = len(one.predictions) >= FEW and list(one.predictions) == list(other.predictions)
        if known:
            yield f"files {n} and {m} of {side} predict the same for every example: one may be a copy"


def refuse_two_units(name: str, values: Mapping[str, Sequence[Any]]) -> None:
    """Refuse scores of which one file is in fractions and another in per cent.

    Args:
        values: of each file.

    Raises:
        UserError: names both files.
    """
    means = {where: fmean(found) for where, found in values.items()}
    fractions = [where for where, found in values.items() if min(found) >= 0 and max(found) <= 1]
    per_cent = [
        where for where, found in values.items() if min(found) >= 0 and IN_PER_CENT < max(found) <= 100
    ]
    for one in fractions:
        for other in per_cent:
            if means[one] / LIKELY <= means[other] / 100 <= means[one] * LIKELY:
                came = f"up to {max(values[one]):.3g} in {one}, up to {max(values[other]):.3g} in {other}"
                raise UserError(f"--score {name}", "is given in two units", came, "give it in one unit")
