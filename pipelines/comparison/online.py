"""Error control over every look at a test set, in the order of the looks: e-LOND.

Z. Xu and A. Ramdas, "Online multiple testing with e-values", AISTATS 2024: look t is claimed where
`e_t >= 1 / (level * weight_t * (claims before t + 1))`, for weights that add up to 1. Of all claims, at any
time, the expected share of false ones is at most `level`, however the looks depend on each other; those at
one test set do, and often share a baseline.

An e-value is made of a p value by the calibrator of V. Vovk and R. Wang, "E-values: calibration, combination
and applications", Annals of Statistics 2021, the mean of `k p^(k-1)` over k from 0 to 1:
`(1 - p + p ln p) / (p (ln p)^2)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.05
NEAR_1 = 1e-4  # the formula of the calibrator loses all its digits closer to p = 1, where it is 1/2


@dataclass(frozen=True)
class OnlineTest:
    """The reading of one look, after all looks before it."""

    e: float
    needed: float  # the e-value from which it is claimed
    claimed: bool


def e_value(p: float) -> float:
    """Return an e-value of a p value: its mean is at most 1 where there is no effect."""
    if p <= 0:
        return math.inf
    if p > 1 - NEAR_1:
        return 0.5
    log = math.log(p)
    return (1 - p + p * log) / (p * log**2)


def weight(place: int) -> float:
    """Return the share of the level that look `place`, counted from 1, gets; all shares add up to 1."""
    return 1 / (place * (place + 1))


def e_lond(p_values: Sequence[float], level: float = LEVEL) -> list[OnlineTest]:
    """Return the reading of every look, in order."""
    found: list[OnlineTest] = []
    claims = 0
    for place, p in enumerate(p_values, start=1):
        needed = 1 / (level * weight(place) * (claims + 1))
        e = e_value(p)
        found.append(OnlineTest(e, needed, e >= needed))
        claims += found[-1].claimed
    return found
