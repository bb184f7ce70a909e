"""Whether verdicts settle what is expected of an arm: in favour, against, or not yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from pipelines.comparison.words import USUALLY

Expected = Literal["better", "not-worse", "equivalent"]
Outcome = Literal["favour", "against", "undecided"]
EXPECTED: tuple[Expected, ...] = get_args(Expected)
STATUS: dict[Outcome, int] = {"favour": 0, "against": 10, "undecided": 11}  # of the command
SAME = ("equivalent", "identical")
FAVOUR = {
    "better": ("better",),
    "not-worse": ("better", "non-inferior", *SAME),
    "equivalent": SAME,
}
AGAINST = {"better": ("worse", *SAME), "not-worse": ("worse",), "equivalent": ("better", "worse")}


def outcome(expected: Expected, word: str, *, within_margin: bool, changed: bool) -> Outcome:
    """Return what a verdict says of an expectation.

    A difference that is found within the margin settles nothing about equality: its verdict claims the
    difference only. Neither does a verdict that rests on something changed after the registration. "usually
    better" is in favour as "better" is: what it leaves open is a fall that no seed has shown.

    Args:
        word: the first word of the verdict.
    """
    if changed:
        return "undecided"
    word = word.removeprefix(USUALLY)
    if word in FAVOUR[expected]:
        return "favour"
    is_small = within_margin and word not in SAME
    if word in AGAINST[expected] and not (is_small and expected != "better"):
        return "against"
    return "undecided"


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """Return what several comparisons say: all must be in favour, and one against is enough."""
    if "against" in outcomes:
        return "against"
    return "favour" if outcomes and set(outcomes) == {"favour"} else "undecided"
