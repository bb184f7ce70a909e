"""Whether an arm differs from the baseline: the two-way test over seeds and examples, Holm, the bootstrap.

Everything here is arithmetic on stored statistics; method and measured error rates are in docs/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from scipy.sparse import csr_array, issparse

from pipelines.comparison import behrens_fisher
from pipelines.metrics.base import StatisticsTable

K = TypeVar("K")
Value = Callable[[np.ndarray], np.ndarray]  # summed statistics (..., columns) -> value (...), more is better

LEVEL = 0.05  # two-sided error rate of a verdict
POWER = 0.80  # power behind the smallest detectable difference
MIN_SEEDS = 3  # fewer compare checkpoints, not methods
MIN_CLUSTERS = 30
CLAIMING_CLUSTERS = 10  # fewer claim nothing
MIN_DIFFERING = 20  # examples
BOOTSTRAP_TOLERANCE = 0.10  # relative gap between the standard errors of bootstrap and jackknife
RESAMPLES = 10_000
BLOCK = 1 << 20  # numbers of dense statistics at a time
CHUNK = 128  # resamples drawn at a time; larger chunks fall out of the cache


@dataclass(frozen=True)
class Variance:
    """Estimated parts of the variance of the mean difference, in squared units of the difference."""

    seeds: float  # spread of the seeds' differences, divided by their number
    examples: float  # delete-one-cluster jackknife with the seeds held fixed
    interaction: float  # the part of `seeds` that `examples` counts already
    total: float  # examples + max(0, seeds - interaction)


@dataclass(frozen=True, kw_only=True)
class TwoWay:
    """A paired comparison of one arm with the baseline; differences are positive where the arm is better.

    The numbers of the test are NaN where there is none; `problem` is then the reason, as a clause.
    """

    difference: float
    se: float = math.nan
    df: float = math.nan  # of the t with the same 95 % interval
    p: float = math.nan  # two-sided
    ci95: tuple[float, float] = (math.nan, math.nan)  # wider where it holds at every look
    ci90: tuple[float, float] = (math.nan, math.nan)
    mde80: float = math.nan  # difference that this test finds with power 80 %
    seed_differences: tuple[float, ...]
    variance: Variance
    num_seeds: int
    num_examples: int
    num_clusters: int
    num_differing: int  # examples with different statistics in any seed
    skewness: float = 0.0  # of the effects of the clusters: positive where a few gain much
    problem: str | None = None

    @property
    def identical(self) -> bool:
        """Whether every example has the same statistics in both arms, for every seed."""
        return self.num_differing == 0


@dataclass(frozen=True)
class Bootstrap:
    """The same difference over resampled examples: a check of the jackknife, drawn as a histogram."""

    se: float  # to compare with sqrt(variance.examples)
    interval95: tuple[float, float]  # percentile interval, seeds held fixed
    counts: tuple[int, ...]  # histogram of the resampled differences ...
    edges: tuple[float, ...]  # ... and its len(counts) + 1 bin edges
    num_resamples: int


@dataclass(frozen=True)
class Deletions:
    """The compared value of one run, and the value without each cluster of its examples, `(clusters,)`."""

    whole: float
    without: np.ndarray


def delete_one(
    statistics: StatisticsTable, value: Value, clusters: Sequence[object] | None = None
) -> Deletions:
    """Return the value of statistics `(examples, columns)`, whole and without each cluster.

    A sparse table is filled in block by block; equal rows, which a table of labels has many of, once.
    """
    groups = cluster_sums(statistics, clusters)
    whole = groups.sum(axis=0)
    rows, places = _distinct(groups) if issparse(groups) else (groups, slice(None))
    size = max(1, BLOCK // max(1, groups.shape[1]))
    blocks = [rows[start : start + size] for start in range(0, rows.shape[0], size)]
    values = [value(whole - dense_rows(block)) for block in blocks]
    return Deletions(float(value(whole)), np.concatenate(values)[places])


def dense_rows(table: Any) -> np.ndarray:
    """Return a table as a dense array."""
    return table.toarray() if issparse(table) else np.asarray(table)


def _distinct(groups: csr_array) -> tuple[csr_array, np.ndarray]:
    """Return the distinct rows of a sparse table, and the place of each row among them."""
    groups.sort_indices()
    first: dict[bytes, int] = {}
    kept, places = [], []
    for row, (start, end) in enumerate(zip(groups.indptr, groups.indptr[1:])):
        key = groups.indices[start:end].tobytes() + groups.data[start:end].tobytes()
        if key not in first:
            kept.append(row)
        places.append(first.setdefault(key, len(first)))
    return groups[kept], np.array(places)


def differing(baseline: StatisticsTable, arm: StatisticsTable) -> np.ndarray:
    """Return which examples have different statistics, `(examples,)`."""
    differs = baseline != arm
    return np.diff(csr_array(differs).indptr) > 0 if issparse(differs) else np.any(differs, axis=1)


def two_way(
    baseline: Sequence[StatisticsTable] | np.ndarray,
    arm: Sequence[StatisticsTable] | np.ndarray,
    value: Value,
    clusters: Sequence[object] | None = None,
) -> TwoWay:
    """Test an arm against the baseline by `paired_test`, from the statistics of their runs.

    Args:
        baseline: statistics of the baseline's runs, a table `(examples, columns)` for each seed.
        arm: those of the arm, of the same shape; run `s` and example `i` are paired.
        value: maps summed statistics to the value compared; more is better.
        clusters: one label per example; examples of one label (document, article) are left out together.
            None makes every example its own cluster.

    Raises:
        ValueError: shapes differ, or there is no seed or no example.
    """
    sides = [
        [one if issparse(one) else np.asarray(one, np.float64) for one in side] for side in (baseline, arm)
    ]
    shapes = [[one.shape for one in side] for side in sides]
    if shapes[0] != shapes[1] or not shapes[0] or any(len(one) != 2 or not one[0] for one in shapes[0]):
        raise ValueError(f"expected two lists of tables (examples, columns), got {shapes[0]} and {shapes[1]}")
    before, after = ([delete_one(one, value, clusters) for one in side] for side in sides)
    return paired_test(before, after, [differing(*pair) for pair in zip(*sides)])


def paired_test(
    baseline: Sequence[Deletions],
    arm: Sequence[Deletions],
    differs: Sequence[np.ndarray],
    part: float = 1.0,
) -> TwoWay:
    """Test an arm against the baseline over seeds x examples, paired on both.

    The variance over examples is a delete-one jackknife over clusters.

    Args:
        baseline: the values of the baseline's runs, one for each seed.
        arm: those of the arm.
        differs: for each seed, which examples have different statistics.
        part: of the level, that the intervals may use where there are several looks (`looks.py`).

    With one seed the variance is that of the examples alone: a comparison of two checkpoints.
    A difference that never varies has no standard error, and neither has one of a single cluster: `problem`
    then gives the reason, and `p` is NaN.
    """
    num_seeds, num_clusters = len(baseline), len(baseline[0].without)
    scores = tuple(np.array([run.whole for run in side]) for side in (baseline, arm))
    with np.errstate(invalid="ignore"):
        by_seed = scores[1] - scores[0]
        difference = float(by_seed.mean())
    variance, skewness = Variance(*[math.nan] * 4), 0.0
    if num_clusters > 1:
        with np.errstate(invalid="ignore", over="ignore"):  # a score that is not finite is told below
            without = np.stack([one.without - other.without for other, one in zip(baseline, arm)])
            variance, skewness = _variance(by_seed, without), _skewness(-without.mean(axis=0))
    # Rounding alone changes a score by one or two eps, so a smaller standard error counts as zero.
    noise = 8 * np.finfo(np.float64).eps * float(np.max(np.abs(scores), initial=0.0))
    se = math.sqrt(variance.total)
    untested = TwoWay(
        difference=difference,
        seed_differences=tuple(by_seed.tolist()),
        variance=variance,
        num_seeds=num_seeds,
        num_examples=len(differs[0]),
        num_clusters=num_clusters,
        num_differing=int(np.any(differs, axis=0).sum()),
        skewness=skewness,
    )
    if num_clusters == 1:
        return replace(untested, problem="a test needs more than one cluster of examples")
    if not (math.isfinite(difference) and math.isfinite(se)):
        return replace(untested, problem="a score is not a finite number")
    if se <= noise * math.sqrt(num_clusters):
        if untested.identical:
            return _identical(untested)
        return replace(untested, problem="the difference is the same whichever examples are left out")
    return _tested(untested, se, part)


def _variance(by_seed: np.ndarray, without: np.ndarray) -> Variance:
    """Return the parts of the variance.

    Args:
        by_seed: difference of each seed, `(seeds,)`.
        without: difference of each seed without each cluster, `(seeds, clusters)`.
    """
    num_seeds = len(without)
    per_seed = jackknife_variance(without)
    examples = float(jackknife_variance(without.mean(axis=0)))
    if num_seeds == 1:
        return Variance(0.0, examples, 0.0, examples)
    seeds = float(by_seed.var(ddof=1)) / num_seeds
    interaction = max(0.0, float(per_seed.mean()) - examples) / (num_seeds - 1)
    return Variance(seeds, examples, interaction, examples + max(0.0, seeds - interaction))


def _skewness(effects: np.ndarray) -> float:
    """Return the third standardised moment; 0 where nothing varies."""
    away = effects - effects.mean()
    spread = float(np.sqrt(np.mean(np.square(away))))
    return float(np.mean((away / spread) ** 3)) if spread > 0 else 0.0


def jackknife_variance(without: np.ndarray) -> np.ndarray:
    """Return the delete-one-cluster variance of a value, from the values without each cluster `(..., G)`."""
    num_clusters = without.shape[-1]
    spread = np.square(without - without.mean(axis=-1, keepdims=True)).sum(axis=-1)
    return (num_clusters - 1) / num_clusters * spread


def share_of_seeds(variance: Variance) -> float:
    """Return the part of the total variance that only the seeds can estimate; the examples give the rest."""
    return min(1.0, variance.seeds / variance.total)


def degrees_of_freedom(num_seeds: int, num_clusters: int) -> tuple[float, float]:
    """Return those of the variance over seeds (0 for one seed, which has none) and over clusters."""
    return num_seeds - 1.0, num_clusters - 1.0


def _identical(untested: TwoWay) -> TwoWay:
    """Return the result of two arms with equal statistics: no difference, with certainty."""
    df = float(untested.num_seeds - 1 if untested.num_seeds > 1 else untested.num_clusters - 1)
    none = (0.0, 0.0)
    return replace(untested, difference=0.0, se=0.0, df=df, p=1.0, ci95=none, ci90=none, mde80=0.0)


def _tested(untested: TwoWay, se: float, part: float) -> TwoWay:
    """Return the test of a difference with this standard error, by the distribution of Behrens and Fisher."""
    from scipy.special import stdtridf  # scipy.stats takes a second to import

    dfs = degrees_of_freedom(untested.num_seeds, untested.num_clusters)
    share, difference = share_of_seeds(untested.variance), untested.difference
    t95, t90, t80 = (
        float(behrens_fisher.critical_value(level, share, dfs))
        for level in (LEVEL * part, 2 * LEVEL * part, 2 * (1 - POWER))
    )
    return replace(
        untested,
        se=se,
        df=float(stdtridf(1 - LEVEL / 2, t95)),
        p=float(behrens_fisher.p_value(difference / se, share, dfs)),
        ci95=(difference - t95 * se, difference + t95 * se),
        ci90=(difference - t90 * se, difference + t90 * se),
        mde80=(t95 + t80) * se,
    )


def cluster_sums(statistics: StatisticsTable, clusters: Sequence[object] | None = None) -> StatisticsTable:
    """Sum statistics `(examples, columns)` over each cluster, in the order of their first examples.

    Raises:
        ValueError: the number of labels is not that of the examples.
    """
    if clusters is None:
        return statistics
    order: dict[object, int] = {}
    place = np.array([order.setdefault(label, len(order)) for label in clusters])
    if len(place) != statistics.shape[0]:
        raise ValueError(f"{len(place)} cluster labels for {statistics.shape[0]} examples")
    if len(order) == len(place):
        return statistics
    if issparse(statistics):
        members = csr_array((np.ones(len(place)), (place, np.arange(len(place)))))
        return members @ statistics
    ranked = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[ranked], np.arange(len(order)))
    return np.add.reduceat(statistics[ranked], starts, axis=0)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p-values, in the order given; NaN counts as 1 within the family.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    filled = np.nan_to_num(np.asarray(p_values, dtype=np.float64), nan=1.0)
    ranked = np.argsort(filled, kind="stable")
    scaled = np.minimum(1.0, filled[ranked] * np.arange(len(filled), 0, -1))
    adjusted = np.empty_like(filled)
    adjusted[ranked] = np.maximum.accumulate(scaled)
    return adjusted.tolist()


def resample(num_clusters: int, num_resamples: int = RESAMPLES, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield how often each cluster is drawn in bootstrap resamples: `(some resamples, clusters)`, float32.

    One draw serves all arms, seeds and metrics, which keeps every pairing. It depends on `seed` and the
    number of clusters only. Single precision is twice as fast; sums of it are exact for counts up to
    16 million, else within 1e-7 of a sum.
    """
    generator = np.random.default_rng(seed)
    for start in range(0, num_resamples, CHUNK):
        rows = min(CHUNK, num_resamples - start)
        drawn = generator.integers(0, num_clusters, size=(rows, num_clusters))
        drawn += np.arange(rows)[:, None] * num_clusters
        counts = np.bincount(drawn.ravel(), minlength=rows * num_clusters).reshape(rows, num_clusters)
        yield counts.astype(np.float32)


def resampled_values(
    groups: Mapping[K, StatisticsTable], values: Mapping[K, Value], num_resamples: int = RESAMPLES
) -> dict[K, np.ndarray]:
    """Return the value of each table `(clusters, columns)` over the same resamples, `(resamples,)`.

    Dense tables are multiplied side by side; no sum of a resample is kept.
    """
    dense = [key for key, table in groups.items() if not issparse(table)]
    sparse = {key: csr_array(table.T, dtype=np.float32) for key, table in groups.items() if issparse(table)}
    ends = np.cumsum([0, *(groups[key].shape[1] for key in dense)])
    beside = np.concatenate([groups[key] for key in dense], axis=1).astype(np.float32) if dense else None
    found: dict[K, list[np.ndarray]] = {key: [] for key in groups}
    [num_clusters] = {table.shape[0] for table in groups.values()}
    for counts in resample(num_clusters, num_resamples):
        if beside is not None:
            sums = (counts @ beside).astype(np.float64)
            for key, start, end in zip(dense, ends, ends[1:]):
                found[key].append(values[key](sums[:, start:end]))
        if sparse:
            by_cluster = np.ascontiguousarray(counts.T)
            for key, table in sparse.items():
                found[key].append(values[key]((table @ by_cluster).T.astype(np.float64, order="C")))
    return {key: np.concatenate(parts) for key, parts in found.items()}


def bootstrap(baseline: np.ndarray, arm: np.ndarray, num_bins: int = 40) -> Bootstrap:
    """Return the distribution of the difference; each arm is its resampled values `(resamples, seeds)`."""
    differences = (arm - baseline).mean(axis=1)
    counts, edges = np.histogram(differences, bins=num_bins)
    low, high = np.quantile(differences, [LEVEL / 2, 1 - LEVEL / 2])
    return Bootstrap(
        se=float(differences.std(ddof=1)),
        interval95=(float(low), float(high)),
        counts=tuple(counts.tolist()),
        edges=tuple(edges.tolist()),
        num_resamples=len(differences),
    )
