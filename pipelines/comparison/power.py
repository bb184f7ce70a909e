"""How many seeds and examples a difference needs to be found, and what more of either cannot buy.

Pure functions of the three variance parts of a paired difference. docs/ablations.md has the model, the tests
how well they foretell the share of simulated comparisons that find a difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

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
    both: float  # what is new for every seed and cluster

    def parts(self, num_seeds: int, num_clusters: float) -> tuple[float, float]:
        """What the test expects to measure over seeds and over examples; each holds the part of both."""
        both = self.both / (num_seeds * num_clusters)
        return self.seeds / num_seeds + both, self.examples / num_clusters + both

    def variance(self, num_seeds: float, num_clusters: float) -> float:
        """Variance of the mean difference; an infinite number of seeds or clusters is allowed."""
        shares = (
            self.seeds / num_seeds,
            self.examples / num_clusters,
            self.both / (num_seeds * num_clusters),
        )
        return sum(shares)

    def cautious(self, num_seeds: int) -> Components:
        """The same with the seeds' part at its upper 80 % bound, as a pilot of `num_seeds` pairs knows it."""
        from scipy.special import chdtri

        bound = (num_seeds - 1) / float(chdtri(num_seeds - 1, CAUTION))  # of a chi-square's lower fifth
        return Components(self.seeds * bound, self.examples, self.both)


def components(variance: Variance | Mapping[str, float], num_seeds: int, num_clusters: int) -> Components:
    """Variance parts as a comparison of at least two seeds measured them (`TwoWay.variance`).

    Raises:
        ValueError: fewer than two seeds tell nothing about seeds.
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
    """Probability that the two-way t finds a true `difference` at a two-sided `level`.

    The spread that the test will see between few seeds is a chi-square: now too small, now too large. The
    probability is the mean over it of what the test then does, with its own standard error and degrees of
    freedom. The rule of thumb behind MDE80 takes that spread for known, and promises too much at few seeds.
    """
    from scipy.special import ndtr, stdtrit

    se = math.sqrt(parts.variance(num_seeds, num_clusters))
    if se == 0:
        return 1.0 if difference else level
    estimate, df = _as_estimated(parts, num_seeds, num_clusters)
    bar = stdtrit(df, 1 - level / 2) * np.sqrt(estimate)  # what the estimated difference has to exceed
    found = ndtr((abs(difference) - bar) / se) + ndtr((-abs(difference) - bar) / se)
    return float(found.mean())


def _as_estimated(parts: Components, num_seeds: int, num_clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Variance and degrees of freedom as `statistics.two_way` will estimate them, at equally likely draws."""
    from scipy.special import chdtri

    seeds, examples = parts.parts(num_seeds, num_clusters)
    if num_seeds == 1:
        return np.array([examples]), np.array([num_clusters - 1.0])
    drawn = seeds * chdtri(num_seeds - 1, 1 - (np.arange(DRAWS) + 0.5) / DRAWS) / (num_seeds - 1)
    counted_twice = parts.both / (num_seeds * num_clusters)
    total = examples + np.maximum(0.0, drawn - counted_twice)
    return total, np.asarray(degrees_of_freedom(drawn, total, num_seeds, num_clusters))


def detectable(
    parts: Components, num_seeds: int, num_clusters: int, level: float = LEVEL, wanted: float = POWER
) -> float:
    """The smallest true difference found with the wanted power."""
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
    """Fewest seeds (at least 2) that find a difference on so many clusters; None where none do."""
    return _fewest(lambda n: power(parts, difference, n, num_clusters, level) >= wanted, 2, MOST_SEEDS)


def clusters_needed(
    parts: Components, difference: float, num_seeds: int, level: float = LEVEL, wanted: float = POWER
) -> int | None:
    """Fewest clusters of examples that find a difference with so many seeds; None where none do."""
    return _fewest(lambda n: power(parts, difference, num_seeds, n, level) >= wanted, 2, MOST_CLUSTERS)


def floor_of_seeds(
    parts: Components, num_clusters: int, level: float = LEVEL, wanted: float = POWER
) -> float:
    """What cannot be undercut by any number of seeds: the examples' own noise decides."""
    return detectable(Components(0.0, parts.examples, 0.0), MOST_SEEDS, num_clusters, level, wanted)


def _fewest(enough: Callable[[int], bool], least: int, most: int) -> int | None:
    """Smallest number that is enough, where more never is less."""
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
