"""Draw what a comparison estimates, straight from the distributions of the estimates; a million in a second.

Differences of normal seeds and examples give independent mean squares, so the variance parts of
`significance.two_way` are chi-squares over their degrees of freedom.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

from pipelines.comparison import behrens_fisher

Critical = Callable[[float, np.ndarray, tuple[float, float]], np.ndarray]  # level, share of seeds, dfs


@dataclass(frozen=True)
class Truth:
    """How the true variance of a difference, which is 1, is made up."""

    num_seeds: int
    num_clusters: int
    examples: float  # share of the variance that lasts over seeds
    both: float = 0.0  # share that is new for every seed and example

    @property
    def dfs(self) -> tuple[float, float]:
        return self.num_seeds - 1.0, self.num_clusters - 1.0


@dataclass(frozen=True)
class Estimates:
    """Estimated differences with their estimated standard errors and shares of the seeds."""

    difference: np.ndarray
    se: np.ndarray
    share: np.ndarray

    def ratio(self, gain: float | np.ndarray = 0.0) -> np.ndarray:
        return (self.difference + gain) / self.se


def draw(rng: np.random.Generator, truth: Truth, *shape: int) -> Estimates:
    """Return estimates of comparisons without a difference."""
    first, second = truth.dfs
    seeds = (1 - truth.examples) * rng.chisquare(first, shape) / first
    examples = (truth.examples + truth.both) * rng.chisquare(second, shape) / second
    both = truth.both * rng.chisquare(first * second, shape) / (first * second) if truth.both else 0.0
    total = examples + np.maximum(0, seeds - both)
    return Estimates(rng.standard_normal(shape), np.sqrt(total), np.minimum(1, seeds / total))


def one_mean_df(level: float, share: np.ndarray, dfs: tuple[float, float]) -> np.ndarray:
    """Return the critical values used before: t with the harmonic mean of the degrees of freedom."""
    shares = np.linspace(0, 1, 2001)
    values = stdtrit(1 / (shares / dfs[0] + (1 - shares) / dfs[1]), 1 - level / 2)
    return np.interp(share, shares, values)


def mean_critical(level: float, share: np.ndarray, dfs: tuple[float, float]) -> np.ndarray:
    """Return the mean of both critical values, weighted by their shares (Cochran 1964)."""
    first, second = (stdtrit(df, 1 - level / 2) for df in dfs)
    return share * first + (1 - share) * second


RULES: dict[str, Critical] = {
    "before": one_mean_df,
    "mean": mean_critical,
    "now": behrens_fisher.critical_values,
}


def effect(power: float = 0.8, level: float = 0.05) -> float:
    """Return the difference, in true standard errors, that is found so often where all variance is known."""
    return float(ndtri(power) - ndtri(level / 2))
