"""How many seeds and examples are needed to detect a difference, and the limit of adding more of either.

Pure functions of the three variance parts of a paired difference. docs/ablations.md describes the model; the
tests compare its predictions with simulated comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from pipelines.comparison import behrens_fisher
from pipelines.comparison.significance import LEVEL, POWER, Variance, degrees_of_freedom

MOST_SEEDS, MOST_CLUSTERS = 1000, 10_000_000  # more than these counts as out of reach
DRAWS = 400  # quantiles of the spread between seeds
CAUTION = 0.80  # one-sided confidence of the cautious seed variance


@dataclass(frozen=True)
class Components:
    """Variance parts of a paired difference.

    The mean over S seeds and G clusters has the variance seeds / S + examples / G + both / (S * G).
    """

    seeds: float  # true differences of the seeds around their mean
    examples: float  # lasting preferences of clusters of examples, times G
    both: float  # varies anew for every pair of seed and cluster

    def parts(self, num_seeds: int, num_clusters: float) -> tuple[float, float]:
        """Return the variances that the test measures over seeds and over examples; each includes `both`."""
        both = self.both / (num_seeds * num_clusters)
        return self.seeds / num_seeds + both, self.examples / num_clusters + both

    def variance(self, num_seeds: float, num_clusters: float) -> float:
        """Return the variance of the mean difference; an infinite number of seeds or clusters is allowed."""
        shares = (
            self.seeds / num_seeds,
            self.examples / num_clusters,
            self.both / (num_seeds * num_clusters),
        )
        return sum(shares)

    def cautious(self, num_seeds: int) -> Components:
        """Return the parts with that of the seeds at its upper 80 % bound after `num_seeds` pairs."""
        from scipy.special import chdtri

        bound = (num_seeds - 1) / float(chdtri(num_seeds - 1, CAUTION))  # of a chi-square's lower fifth
        return Components(self.seeds * bound, self.examples, self.both)


def components(variance: Variance | Mapping[str, float], num_seeds: int, num_clusters: int) -> Components:
    """Return the variance parts that a comparison of at least two seeds measured (`TwoWay.variance`).

    Raises:
        ValueError: fewer than two seeds, which have no variance over seeds.
    """
    if num_seeds < 2:
        raise ValueError("a pilot needs at least 2 seeds")
    known = variance if isinstance(variance, Mapping) else vars(variance)
    both = known["interaction"]
    return Components(
        seeds=max(0.0, known["seeds"] - both) * num_seeds,
        examples=max(0.0, known["examples"] - both) * num_clusters,
        both=both * num_seeds * num_clusters,
    )


def power(
    parts: Components, difference: float, num_seeds: int, num_clusters: int, level: float = LEVEL
) -> float:
    """Return the probability that the two-way test detects a true `difference` at a two-sided `level`.

    The variance that the test estimates between few seeds follows a chi-square distribution. The probability
    is the mean over that distribution, with the standard error and the critical value of each estimate. MDE80
    takes the variance as known instead, so it is too optimistic for few seeds.
    """
    from scipy.special import ndtr

    se = math.sqrt(parts.variance(num_seeds, num_clusters))
    if se == 0:
        return 1.0 if difference else level
    estimate, share = _as_estimated(parts, num_seeds, num_clusters)
    dfs = degrees_of_freedom(num_seeds, num_clusters)
    ratio = behrens_fisher.critical_values(level, share, dfs)
    bar = ratio * np.sqrt(estimate)  # what the estimated difference has to exceed
    found = ndtr((abs(difference) - bar) / se) + ndtr((-abs(difference) - bar) / se)
    return float(found.mean())


def _as_estimated(parts: Components, num_seeds: int, num_clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Return variance and share of the seeds as `two_way` will estimate them, at equally likely draws."""
    from scipy.special import chdtri

    seeds, examples = parts.parts(num_seeds, num_clusters)
    if num_seeds == 1:
        return np.array([examples]), np.zeros(1)
    drawn = seeds * chdtri(num_seeds - 1, 1 - (np.arange(DRAWS) + 0.5) / DRAWS) / (num_seeds - 1)
    counted_twice = parts.both / (num_seeds * num_clusters)
    total = examples + np.maximum(0.0, drawn - counted_twice)
    return total, np.minimum(1.0, drawn / total)


def detectable(
    parts: Components, num_seeds: int, num_clusters: int, level: float = LEVEL, wanted: float = POWER
) -> float:
    """Return the smallest true difference that is detected with the wanted power."""
    high = se = math.sqrt(parts.variance(num_seeds, num_clusters))
    if se == 0:
        return 0.0
    while power(parts, high, num_seeds, num_clusters, level) < wanted:
        high *= 2
    low = 0.0
    for _ in range(50):
        middle = (low + high) / 2
        found = power(parts, middle, num_seeds, num_clusters, level) >= wanted
        low, high = (low, middle) if found else (middle, high)
    return high


def seeds_needed(
    parts: Components, difference: float, num_clusters: int, level: float = LEVEL, wanted: float = POWER
) -> int | None:
    """Return the fewest seeds (at least 2) that detect a difference on `num_clusters`; None where none do."""
    return _fewest(lambda n: power(parts, difference, n, num_clusters, level) >= wanted, 2, MOST_SEEDS)


def clusters_needed(
    parts: Components, difference: float, num_seeds: int, level: float = LEVEL, wanted: float = POWER
) -> int | None:
    """Return the fewest clusters that detect a difference with `num_seeds` seeds; None where none do."""
    return _fewest(lambda n: power(parts, difference, num_seeds, n, level) >= wanted, 2, MOST_CLUSTERS)


def floor_of_seeds(
    parts: Components, num_clusters: int, level: float = LEVEL, wanted: float = POWER
) -> float:
    """Return the difference below which no number of seeds helps: the noise of the examples decides."""
    return detectable(Components(0.0, parts.examples, 0.0), MOST_SEEDS, num_clusters, level, wanted)


def _fewest(enough: Callable[[int], bool], least: int, most: int) -> int | None:
    """Return the smallest number from `least` to `most` that is enough; a larger one always is, too."""
    high = least
    while not enough(high):
        if high >= most:
            return None
        high = min(2 * high, most)
    low = max(least, high // 2)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high
