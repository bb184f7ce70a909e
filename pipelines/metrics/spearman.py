"""Spearman's correlation of predicted and true numbers, with statistics that add up."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from importlib.metadata import version
from itertools import groupby

import numpy as np

from pipelines.metrics.base import Metric, ratio
from pipelines.metrics.pearson import centred


class Spearman(Metric):
    """Spearman's correlation times 100; 0 where all predictions or all references are equal.

    Ranks depend on all examples, so the statistics of an example are its share in the score: their mean is
    the score, and the mean without an example moves as the correlation of the others does (jackknife
    pseudo-values; the ranks are taken anew without each example).
    """

    name = "spearman"
    columns = ("share", "count")

    @property
    def signature(self) -> str:
        return f"scipy|version:{version('scipy')}|spearmanr|constant:0"

    def statistics(self, prediction: float, reference: float) -> np.ndarray:
        return self.table([prediction], [reference])[0]

    def table(self, predictions: Sequence[float], references: Sequence[float]) -> np.ndarray:
        count = len(references)
        ranks = [_ranks(values) for values in (predictions, references)]
        whole = _correlation(*(centred(one) for one in ranks))
        shares = np.full(count, whole)
        if count > 2:
            shares += centred((count - 1) * (whole - _without_each(*ranks)))
        return np.stack([shares, np.ones(count)], axis=1)

    def score(self, sums: np.ndarray) -> np.ndarray:
        return ratio(sums, 100)

    def library_score(self, predictions: Sequence[float], references: Sequence[float]) -> float:
        from scipy.stats import spearmanr

        if len(set(predictions)) < 2 or len(set(references)) < 2:
            return 0.0
        return 100 * float(spearmanr(predictions, references).statistic)


def _ranks(values: Sequence[float]) -> np.ndarray:
    """Return ranks from 1, the mean rank for equal values."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(values), dtype=np.float64)


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    below = math.sqrt(float(x @ x)) * math.sqrt(float(y @ y))
    return float(x @ y) / below if below > 0 else 0.0


def _without_each(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the correlation of the ranks that the others have without each example.

    Without example i, a higher rank falls by 1 and an equal one by 1/2, so all sums of products follow from
    sums over the higher ranks.
    """
    others, ones = len(x) - 1, np.ones(len(x))
    middle = others * (len(x) / 2) ** 2  # of the products, by the mean rank of the others
    spread = []
    for one in (x, y):
        fall_by_rank = _above(one, one) - 0.5 * one  # without i itself, which does not count
        squares = float(one @ one) - one**2 - 2 * fall_by_rank + _above(one, ones, 0.25) - 0.25
        spread.append(np.sqrt(np.maximum(squares - middle, 0)))
    crossed = [_above(one, other) - 0.5 * other for one, other in ((x, y), (y, x))]
    products = float(x @ y) - x * y - crossed[0] - crossed[1] + _above_in_both(x, y) - 0.25
    below = spread[0] * spread[1]
    return np.where(below > 0, (products - middle) / np.where(below > 0, below, 1), 0.0)


def _above(ranks: np.ndarray, weights: np.ndarray, tie: float = 0.5) -> np.ndarray:
    """Return for each example the weights of those of higher rank, and `tie` times those of equal rank."""
    order = np.argsort(ranks, kind="stable")
    sums = np.concatenate([[0.0], np.cumsum(weights[order])])
    low, high = (np.searchsorted(ranks[order], ranks, side) for side in ("left", "right"))
    return (sums[-1] - sums[high]) + tie * (sums[high] - sums[low])


def _above_in_both(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return how many examples are above each one in both rankings; a tie counts 1/2 in each."""
    found = np.empty(len(x))
    higher: list[float] = []  # ranks in y of the examples that are higher in x
    for _, group in groupby(np.argsort(-x, kind="stable").tolist(), key=x.__getitem__):
        tied = list(group)
        level = sorted(y[tied].tolist())
        for place in tied:
            found[place] = _count_above(higher, y[place]) + 0.5 * _count_above(level, y[place])
        for rank in level:
            insort(higher, rank)
    return found


def _count_above(ranks: Sequence[float], rank: float) -> float:
    """Return how many of some sorted ranks are above one; an equal one counts 1/2."""
    return len(ranks) - 0.5 * (bisect_left(ranks, rank) + bisect_right(ranks, rank))
