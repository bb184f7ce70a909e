"""Whether a difference lies inside the margin: one-sided tests, and their family."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.comparison import behrens_fisher
from pipelines.comparison.significance import TwoWay, degrees_of_freedom, share_of_seeds

Sides = tuple[float, float]  # p of "worse by the margin or more" and of "better by the margin or more"


def one_sided(result: TwoWay, margin: float) -> Sides | None:
    """Return the p values of the two hypotheses that the arm is worse, or better, by at least the margin."""
    if result.problem is not None or result.se == 0:
        return None
    dfs = degrees_of_freedom(result.num_seeds, result.num_clusters)
    share = share_of_seeds(result.variance)
    ratios = np.array([margin + result.difference, margin - result.difference]) / result.se
    half = behrens_fisher.p_value(ratios, share, dfs) / 2
    worse, better = np.where(ratios > 0, half, 1 - half).tolist()
    return worse, better


def adjusted(family: Sequence[Sides | None]) -> list[Sides | None]:
    """Return the p values adjusted over a family of comparisons; None counts in it and stays None.

    Holm's procedure over both sides of all comparisons. A difference cannot be worse and better at once, so
    at most one hypothesis of a comparison is true, and the multiplier is the number of comparisons that
    have a hypothesis left (Shaffer 1986).
    """
    found = [list(sides) if sides else [1.0, 1.0] for sides in family]
    left, least = len(found), 0.0
    rejected = [0] * len(found)
    order = sorted((p, place, side) for place, sides in enumerate(found) for side, p in enumerate(sides))
    for p, place, side in order:
        least = max(least, min(1.0, p * left))
        found[place][side] = least
        rejected[place] += 1
        left -= rejected[place] == 2
    return [(one[0], one[1]) if sides else None for one, sides in zip(found, family)]
