"""One answer for an arm over all cells: random effects, their spread, and what a new cell would show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.comparison.significance import LEVEL

MIN_CELLS = 3  # of two, the spread between cells is hardly known
STEPS = 100  # of the bisection for the spread


@dataclass(frozen=True)
class Summary:
    """The mean of an arm's differences over cells, in units of their margins."""

    arm: str
    cells: int
    mean: float
    interval: tuple[float, float]  # 95 %, Hartung and Knapp
    p: float
    prediction: tuple[float, float]  # 95 %: in a new cell of this kind
    spread: float  # standard deviation of the true differences between cells
    heterogeneity: float  # share of the variance of estimates that is such spread, 0 to 1


def summarise(arm: str, differences: Sequence[float], errors: Sequence[float]) -> Summary | None:
    """Return the summary of some cells; None for fewer than three, or where an error is 0.

    The spread is Paule's and Mandel's (1982); the interval is Hartung's and Knapp's (2001), never narrower
    than without their factor; the prediction interval has k - 2 degrees of freedom (Higgins 2009).
    """
    from scipy.special import stdtr, stdtrit

    values, variances = np.asarray(differences, np.float64), np.square(np.asarray(errors, np.float64))
    count = len(values)
    if count < MIN_CELLS or not np.all(variances > 0) or not np.all(np.isfinite(values)):
        return None
    spread = _spread(values, variances)
    weights = 1 / (variances + spread)
    mean = float((weights * values).sum() / weights.sum())
    factor = max(1.0, _scatter(values, variances, spread) / (count - 1))
    error = math.sqrt(factor / float(weights.sum()))
    half = float(stdtrit(count - 1, 1 - LEVEL / 2)) * error
    ahead = float(stdtrit(count - 2, 1 - LEVEL / 2)) * math.sqrt(spread + error**2)
    typical = (count - 1) * float((1 / variances).sum())
    typical /= float((1 / variances).sum()) ** 2 - float((1 / variances**2).sum())
    return Summary(
        arm=arm,
        cells=count,
        mean=mean,
        interval=(mean - half, mean + half),
        p=float(2 * stdtr(count - 1, -abs(mean) / error)),
        prediction=(mean - ahead, mean + ahead),
        spread=math.sqrt(spread),
        heterogeneity=spread / (spread + typical),
    )


def _scatter(values: np.ndarray, variances: np.ndarray, spread: float) -> float:
    """Return the weighted squares of the differences around their mean."""
    weights = 1 / (variances + spread)
    mean = (weights * values).sum() / weights.sum()
    return float((weights * np.square(values - mean)).sum())


def _spread(values: np.ndarray, variances: np.ndarray) -> float:
    """Return the variance between cells at which the scatter is what chance gives; 0 if it is less."""
    wanted = len(values) - 1
    if _scatter(values, variances, 0.0) <= wanted:
        return 0.0
    low, high = 0.0, float(values.var(ddof=1)) + float(variances.max())
    while _scatter(values, variances, high) > wanted:
        high *= 2
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _scatter(values, variances, middle) > wanted else (low, middle)
    return high
