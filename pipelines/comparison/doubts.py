"""What withholds a word from a comparison whose interval would earn it, or qualifies it."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.comparison.collapse import Collapse, Unseen
from pipelines.comparison.significance import TwoWay

SKEWNESS = 25.0  # clusters needed for a mean of normal error, over the square of their skewness


@dataclass(frozen=True)
class Doubts:
    """Why a comparison cannot be called better, worse or equal, as clauses; empty where it can."""

    better: str = ""
    worse: str = ""
    usual: str = ""  # why better, or worse, holds for usual seeds and examples only
    equal: str = ""  # equivalent, non-inferior, identical


NO_DOUBTS = Doubts()


def doubts(
    result: TwoWay,
    collapse: Collapse | None,
    unseen: Unseen | None,
    *,
    selected: str = "",
    insensitive: str = "",
) -> Doubts:
    """Return what is to be doubted.

    Args:
        collapse: of the seeds of the side that is ahead.
        unseen: what falls that no seed has shown would do to it.
        selected: why the scores are those of a selection on the split that is judged; empty: they are not.
        insensitive: why harm would not have been seen; empty: it would.
    """
    fallen = collapse.sentence if collapse is not None and collapse.overturned else ""
    is_better = result.difference > 0
    better = next(filter(None, [selected, fallen if is_better else "", skewed(result, -1)]), "")
    worse = next(filter(None, [fallen if not is_better else "", skewed(result, 1)]), "")
    usually = "" if unseen is None else unseen.within(result.num_seeds)
    return Doubts(better, worse, usually, insensitive)


def skewed(result: TwoWay, side: int) -> str:
    """Return that a few examples with large effects on one side are too few for an interval.

    A mean is estimated too far from such a side while most of its large effects are not in the sample.
    """
    if side * result.skewness <= 0 or result.num_clusters >= SKEWNESS * result.skewness**2:
        return ""
    return (
        f"a few examples have large effects (skewness {result.skewness:+.1f}), "
        f"and {result.num_clusters} clusters are too few for them"
    )
