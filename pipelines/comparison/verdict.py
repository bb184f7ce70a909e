"""The verdict of a comparison: one word, by a rule on interval, p value and margin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.comparison.significance import (
    BOOTSTRAP_TOLERANCE,
    LEVEL,
    MIN_CLUSTERS,
    MIN_DIFFERING,
    MIN_SEEDS,
    NORMAL_MAD,
    OUTLIER_MADS,
    Bootstrap,
    TwoWay,
)


def flags(result: TwoWay, check: Bootstrap | None = None, seeds: Sequence[object] = ()) -> list[str]:
    """Return reasons to read a comparison with care, as clauses; empty where there are none."""
    found = []
    if result.num_clusters < MIN_CLUSTERS:
        found.append(f"only {result.num_clusters} clusters of examples: the interval is approximate")
    if 0 < result.num_differing < MIN_DIFFERING:
        found.append(f"only {result.num_differing} examples differ at all")
    for place in outliers(result.seed_differences):
        seed = seeds[place] if seeds else f"number {place + 1}"
        found.append(f"seed {seed} stands out ({result.seed_differences[place]:+.3g}); it is kept")
    jackknife = math.sqrt(result.variance.examples) if result.problem is None else 0.0
    if check is not None and jackknife > 0 and abs(check.se / jackknife - 1) > BOOTSTRAP_TOLERANCE:
        found.append(f"bootstrap and jackknife standard errors differ: {check.se:.3g} and {jackknife:.3g}")
    return found


def outliers(differences: Sequence[float]) -> list[int]:
    """Return the places of seeds whose difference is more than 5 median absolute deviations from the median.

    The deviations are scaled to estimate a standard deviation (divided by 0.6745).
    """
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < MIN_SEEDS:
        return []
    away = np.abs(values - np.median(values))
    return np.flatnonzero(away > OUTLIER_MADS * np.median(away) / NORMAL_MAD).tolist()


@dataclass(frozen=True)
class Verdict:
    """The word for one comparison, and the reason that the rule gave."""

    word: str
    reason: str
    within_margin: bool = False


def verdict(
    result: TwoWay | None,
    p_adjusted: float,
    margin: float | None,
    *,
    num_planned: int,
    diverged: Sequence[str] = (),
    missing: Sequence[str] = (),
) -> Verdict:
    """Return the first word that applies, in this order.

    unstable, no-verdict, identical, better / worse, equivalent, non-inferior, inconclusive.

    Args:
        result: the comparison over the finished pairs; None when there is no pair.
        p_adjusted: p-value after Holm over the primary family.
        margin: largest difference that does not matter, in the difference's unit; None: none declared.
        num_planned: seeds declared before the first run.
        diverged, missing: names of runs of either arm that diverged, or that failed or never ran.
    """
    if diverged:
        text = f"{len(diverged)} of {num_planned} seeds diverged ({', '.join(diverged)})"
        return Verdict("unstable", f"{text}; the difference over the finished pairs is exploratory")
    if missing or result is None:
        return Verdict("no-verdict", f"runs are missing: {', '.join(missing) or 'all'}")
    if result.num_seeds < MIN_SEEDS:
        count = f"{result.num_seeds} seed{'s' if result.num_seeds > 1 else ''}"
        return Verdict("no-verdict", f"{count}: a checkpoint comparison, not a method comparison")
    if result.problem is not None:
        return Verdict("no-verdict", result.problem)
    if result.identical:
        return Verdict(
            "identical", "every example scores the same in both arms", within_margin=margin is not None
        )
    return _tested_verdict(result, p_adjusted, margin)


def _tested_verdict(result: TwoWay, p_adjusted: float, margin: float | None) -> Verdict:
    low, high = result.ci90
    inside = margin is not None and -margin < low and high < margin
    low95, high95 = result.ci95
    if (low95 > 0 or high95 < 0) and p_adjusted < LEVEL:
        word = "better" if low95 > 0 else "worse"
        reason = "the 95 % interval excludes 0 and the adjusted p is below 0.05"
        return Verdict(word, reason + (", within the margin" if inside else ""), inside)
    if inside:
        return Verdict("equivalent", f"the 90 % interval lies inside ±{margin:g}", True)
    if margin is not None and low > -margin:
        return Verdict("non-inferior", f"the 90 % interval lies above -{margin:g}")
    return Verdict("inconclusive", f"differences below {result.mde80:.2g} could not be expected to show")
