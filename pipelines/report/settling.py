"""What would settle a comparison, and why its verdict is not the one that its interval suggests."""

from __future__ import annotations

from functools import cache

from pipelines.comparison import power
from pipelines.comparison.significance import LEVEL, Variance
from pipelines.comparison.words import USUALLY
from pipelines.report import format as fmt
from pipelines.report.data import ReportData, Row


def note(facts: ReportData, row: Row) -> str:
    """Return why a row has this verdict or what would change it, as a clause; empty where it is plain."""
    return "; ".join(part for part in (unseen(row), surprise(facts, row), remedy(facts, row)) if part)


def unseen(row: Row) -> str:
    """Return under which assumption a row that is usually better or worse is better or worse."""
    if not row.word.startswith(USUALLY) or row.unseen is None:
        return ""
    fall, rate, needed = row.unseen.fall, row.unseen.overturns, row.unseen.needed
    if fall is None or rate is None or needed is None:
        return "it holds if no seed collapses; how far one would fall is not known"
    whose = row.baseline if row.word.endswith("worse") else row.arm
    return (
        f"it holds if fewer than {100 * rate:.2g} % of the seeds of {whose} collapse (lose {fall:.3g} "
        f"{row.unit}); {needed:,} seeds of which none does would show that"
    )


def surprise(facts: ReportData, row: Row) -> str:
    """Return why a row whose interval excludes 0 is neither better nor worse."""
    ends = fmt.bounds(row.ci95)
    if not row.primary or ends is None or row.p_holm is None or ends[0] <= 0 <= ends[1]:
        return ""
    if row.word not in ("equivalent", "non-inferior", "inconclusive"):
        return ""
    side, word = ("above", "better") if ends[0] > 0 else ("below", "worse")
    return (
        f"its interval lies {side} 0, but p is {fmt.p_value(row.p_holm)} after Holm over "
        f"{fmt.plural(len(facts.primary), 'comparison')}, so it is not called {word}"
    )


def remedy(facts: ReportData, row: Row) -> str:
    """Return how many seeds would settle an inconclusive primary row, as `attnlab plan` says."""
    if row.word != "inconclusive" or not row.primary:
        return ""
    if not fmt.known(row.margin):
        return f"no margin for {row.metric} is declared, so no number of seeds can be named"
    num_pairs, variance = len(fmt.finite(row.by_seed)), row.variance
    if variance is None or not fmt.known(variance.total) or num_pairs < 2 or (row.n_clusters or 0) < 2:
        return ""
    needed, cautious = seeds_needed(
        variance, num_pairs, row.n_clusters or 0, row.margin, LEVEL / len(facts.primary)
    )
    unit = "point" if row.unit == "points" and row.margin == 1 else row.unit
    margin = f"a difference of {row.margin:g} {unit}"
    if needed is None:
        return f"more seeds alone cannot show {margin}: more examples are needed"
    if needed <= num_pairs:
        return f"{num_pairs} seeds already show {margin} four times in five; more seeds narrow the interval"
    safe = f"{cautious} to be safe" if cautious else "no number is safe"
    return f"{needed} seeds would show {margin} four times in five ({safe})"


@cache
def seeds_needed(
    variance: Variance, num_pairs: int, num_clusters: int, margin: float, level: float
) -> tuple[int | None, int | None]:
    """Return the seeds that show the margin, by the measured noise and by its cautious bound."""
    parts = power.components(variance, num_pairs, num_clusters)
    if parts.variance(num_pairs, num_clusters) == 0:
        return None, None
    one, safe = (
        power.seeds_needed(each, margin, num_clusters, level) for each in (parts, parts.cautious(num_pairs))
    )
    return one, safe
