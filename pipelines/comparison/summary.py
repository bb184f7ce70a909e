"""One answer for an arm over all cells, or groups of them: random effects, and what a new cell would show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipelines.comparison.significance import LEVEL

MIN_CELLS = 3  # of two, the spread between cells is hardly known
MIN_BEYOND = 2  # cells more than groups, for the same reason
STEPS = 100  # of the bisection for the spread


@dataclass(frozen=True)
class Estimate:
    """What an arm does in one cell, in units of its margin."""

    arm: str
    difference: float
    error: float
    group: str = ""  # of its cell


@dataclass(frozen=True)
class GroupSummary:
    """The mean of an arm's differences over the cells of one group."""

    name: str
    cells: int
    mean: float
    interval: tuple[float, float]
    prediction: tuple[float, float]


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
    by: str | None = None  # what the cells were grouped by
    groups: tuple[GroupSummary, ...] = ()  # none where there are too few cells for them
    p_groups: float | None = None  # that all groups have one mean
    spread_within: float | None = None  # as `spread`, between the cells of a group


def summaries(estimates: Sequence[Estimate], by: str | None = None) -> tuple[Summary, ...] | None:
    """Return the summary of every arm that has enough cells; None where none has."""
    arms = dict.fromkeys(one.arm for one in estimates)
    found = []
    for arm in arms:
        mine = [one for one in estimates if one.arm == arm]
        differences, errors = [one.difference for one in mine], [one.error for one in mine]
        found.append(summarise(arm, differences, errors, [one.group for one in mine], by))
    return tuple(one for one in found if one is not None) or None


def summarise(
    arm: str,
    differences: Sequence[float],
    errors: Sequence[float],
    groups: Sequence[str] = (),
    by: str | None = None,
) -> Summary | None:
    """Return the summary of one arm; None for fewer than three cells, or where an error is 0.

    The spread is Paule's and Mandel's (1982); the interval is Hartung's and Knapp's (2001), whose factor is 1
    with this spread, and is not allowed to be less where there is none; the prediction interval has k - 2
    degrees of freedom (Higgins 2009). Groups are a regression on their names (Knapp and Hartung 2003) with
    one spread within them; k - groups - 1 degrees.
    """
    from scipy.special import fdtrc, stdtr

    values, variances = np.asarray(differences, np.float64), np.square(np.asarray(errors, np.float64))
    count = len(values)
    if count < MIN_CELLS or not np.all(variances > 0) or not np.all(np.isfinite(values)):
        return None
    whole = _Fit.of(values, variances, ("",) * count)
    [every] = whole.groups()
    weights = 1 / variances
    typical = (count - 1) * float(weights.sum()) / (float(weights.sum()) ** 2 - float((weights**2).sum()))
    summary = Summary(
        arm=arm,
        cells=count,
        mean=every.mean,
        interval=every.interval,
        p=float(2 * stdtr(count - 1, -abs(every.mean) / whole.error(""))),
        prediction=every.prediction,
        spread=math.sqrt(whole.spread),
        heterogeneity=whole.spread / (whole.spread + typical),
        by=by,
    )
    names = len(set(groups))
    if by is None or names < 2 or count < names + MIN_BEYOND:
        return summary
    fit = _Fit.of(values, variances, tuple(groups))
    f = fit.between() / (names - 1)
    return replace(
        summary,
        groups=fit.groups(),
        p_groups=float(fdtrc(names - 1, count - names, f)),
        spread_within=math.sqrt(fit.spread),
    )


@dataclass(frozen=True)
class _Fit:
    """Means of groups of values: known variances, and an unknown one between the values of a group."""

    values: np.ndarray
    variances: np.ndarray
    labels: tuple[str, ...]
    spread: float = 0.0

    @classmethod
    def of(cls, values: np.ndarray, variances: np.ndarray, labels: tuple[str, ...]) -> _Fit:
        """Return the fit at whose spread the scatter around the means is what chance gives."""
        none = cls(values, variances, labels)
        wanted = len(values) - len(none.names)
        if none.scatter() <= wanted:
            return none
        low, high = 0.0, float(values.var(ddof=1)) + float(variances.max())
        while replace(none, spread=high).scatter() > wanted:
            high *= 2
        for _ in range(STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if replace(none, spread=middle).scatter() > wanted else (low, middle)
        return replace(none, spread=high)

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(self.labels))

    @property
    def weights(self) -> np.ndarray:
        return 1 / (self.variances + self.spread)

    def of_group(self, name: str) -> np.ndarray:
        """Return which values are in a group."""
        return np.array([label == name for label in self.labels])

    def mean(self, name: str) -> float:
        mine = self.of_group(name)
        return float((self.weights * self.values)[mine].sum() / self.weights[mine].sum())

    def scatter(self) -> float:
        """Return the weighted squares of the values around the means of their groups."""
        means = {name: self.mean(name) for name in self.names}
        around = self.values - np.array([means[label] for label in self.labels])
        return float((self.weights * np.square(around)).sum())

    def between(self) -> float:
        """Return the weighted squares of the means of the groups around the mean of all."""
        overall = float((self.weights * self.values).sum() / self.weights.sum())
        means = {name: self.mean(name) for name in self.names}
        away = np.array([means[label] - overall for label in self.labels])
        return float((self.weights * np.square(away)).sum())

    def error(self, name: str) -> float:
        """Return the standard error of the mean of a group."""
        return 1 / math.sqrt(float(self.weights[self.of_group(name)].sum()))

    def groups(self) -> tuple[GroupSummary, ...]:
        from scipy.special import stdtrit

        free, found = len(self.values) - len(self.names), []
        for name in self.names:
            mean, error = self.mean(name), self.error(name)
            half = float(stdtrit(free, 1 - LEVEL / 2)) * error
            ahead = float(stdtrit(free - 1, 1 - LEVEL / 2)) * math.sqrt(self.spread + error**2)
            number = int(self.of_group(name).sum())
            found.append(
                GroupSummary(name, number, mean, (mean - half, mean + half), (mean - ahead, mean + ahead))
            )
        return tuple(found)
