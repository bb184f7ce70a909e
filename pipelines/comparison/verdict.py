"""The verdict of a comparison: one word, by a rule on interval, p value and margin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.comparison.doubts import NO_DOUBTS, Doubts, skewed
from pipelines.comparison.outliers import outliers
from pipelines.comparison.significance import (
    BOOTSTRAP_TOLERANCE,
    CLAIMING_CLUSTERS,
    LEVEL,
    MIN_CLUSTERS,
    MIN_DIFFERING,
    MIN_SEEDS,
    Bootstrap,
    TwoWay,
)
from pipelines.comparison.words import USUALLY


def flags(result: TwoWay, check: Bootstrap | None = None, seeds: Sequence[object] = ()) -> list[str]:
    """Return reasons to read a comparison with care, as clauses; empty where there are none."""
    found = []
    if result.num_clusters < MIN_CLUSTERS:
        found.append(f"only {result.num_clusters} clusters of examples: the interval is approximate")
    if 0 < result.num_differing < MIN_DIFFERING:
        found.append(f"only {result.num_differing} examples differ at all")
    found += filter(None, (skewed(result, side) for side in (-1, 1)))
    for place in outliers(result.seed_differences):
        seed = seeds[place] if seeds else f"number {place + 1}"
        found.append(f"seed {seed} stands out ({result.seed_differences[place]:+.3g}); it is kept")
    jackknife = math.sqrt(result.variance.examples) if result.problem is None else 0.0
    if check is not None and jackknife > 0 and abs(check.se / jackknife - 1) > BOOTSTRAP_TOLERANCE:
        found.append(f"bootstrap and jackknife standard errors differ: {check.se:.3g} and {jackknife:.3g}")
    return found


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
    least_seeds: int = MIN_SEEDS,
    diverged: Sequence[str] = (),
    missing: Sequence[str] = (),
    p_margin: tuple[float, float] = (0.0, 0.0),
    doubts: Doubts = NO_DOUBTS,
) -> Verdict:
    """Return the first word that applies, in this order.

    unstable, no-verdict, insensitive, identical, (usually) better / worse, equivalent, non-inferior,
    inconclusive.

    Args:
        result: the comparison over the finished pairs; None when there is no pair.
        p_adjusted: p-value after Holm over the primary family.
        margin: largest difference that does not matter, in the difference's unit; None: none declared.
        num_planned: seeds declared before the first run.
        least_seeds: with fewer there is no verdict; 1 where two models are compared, not two methods.
        diverged, missing: names of runs of either arm that diverged, or that failed or never ran.
        p_margin: adjusted p of being worse, and better, by the margin; 0 lets the interval alone decide.
        doubts: what withholds a word, or qualifies it.
    """
    if diverged:
        text = f"{len(diverged)} of {num_planned} seeds diverged ({', '.join(diverged)})"
        return Verdict("unstable", f"{text}; the difference over the finished pairs is exploratory")
    if missing or result is None:
        return Verdict("no-verdict", f"runs are missing: {', '.join(missing) or 'all'}")
    if result.num_seeds < least_seeds:
        count = f"{result.num_seeds} seed{'s' if result.num_seeds > 1 else ''}"
        return Verdict("no-verdict", f"{count}: a checkpoint comparison, not a method comparison")
    if result.problem is not None:
        return Verdict("no-verdict", result.problem)
    if result.identical:
        if doubts.equal:
            return Verdict("insensitive", f"every example scores the same in both arms, but {doubts.equal}")
        return Verdict(
            "identical", "every example scores the same in both arms", within_margin=margin is not None
        )
    if result.num_clusters < CLAIMING_CLUSTERS:
        return Verdict(
            "no-verdict", f"{result.num_clusters} clusters of examples claim nothing: 10 are needed"
        )
    return _tested_verdict(result, p_adjusted, margin, p_margin, doubts)


def _tested_verdict(
    result: TwoWay, p_adjusted: float, margin: float | None, p_margin: tuple[float, float], doubts: Doubts
) -> Verdict:
    low, high = result.ci90
    inside = margin is not None and -margin < low and high < margin
    low95, high95 = result.ci95
    if (low95 > 0 or high95 < 0) and p_adjusted < LEVEL:
        word, doubt = ("better", doubts.better) if low95 > 0 else ("worse", doubts.worse)
        if doubt:
            return Verdict("inconclusive", f"it would be called {word}, but {doubt}")
        reason = "the 95 % interval excludes 0 and the adjusted p is below 0.05"
        reason += ", within the margin" if inside else ""
        if doubts.usual:
            return Verdict(USUALLY + word, f"{reason}; in usual seeds, as {doubts.usual}", inside)
        return Verdict(word, reason, inside)
    unclear = Verdict("inconclusive", f"differences below {result.mde80:.2g} could not be expected to show")
    if margin is None or low <= -margin or p_margin[0] >= LEVEL:
        return unclear
    if doubts.equal:
        return Verdict("insensitive", f"the 90 % interval lies above -{margin:g}, but {doubts.equal}")
    if inside and p_margin[1] < LEVEL:
        return Verdict("equivalent", f"the 90 % interval lies inside ±{margin:g}", True)
    return Verdict("non-inferior", f"the 90 % interval lies above -{margin:g}")
