"""Falls of seeds far below the others, seen or not: how often they may happen, and what they would undo."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.comparison.outliers import outliers

CONFIDENCE = 0.95  # one-sided


@dataclass(frozen=True)
class Collapse:
    """The seeds of the side that is ahead which fell far below its others, and what their rate may be."""

    seeds: int  # that collapsed
    of: int
    rate: float  # upper 95 % bound of Clopper and Pearson
    fall: float | None = None  # of a collapsed seed below the others; None: none collapsed
    overturns: float | None = (
        None  # the rate at which such falls undo the lead of the others; None: none does
    )

    @property
    def overturned(self) -> bool:
        """Whether a rate within the bound undoes the lead."""
        return self.overturns is not None and self.overturns <= self.rate

    @property
    def sentence(self) -> str:
        """How often seeds may collapse, as a clause."""
        text = f"{self.seeds} of {self.of} seeds collapsed: up to {100 * self.rate:.2g} % may"
        if self.overturns is None or self.fall is None:
            return text
        return f"{text}, and falls of {self.fall:.3g} undo the lead at {100 * self.overturns:.2g} %"


def collapse(leads: Sequence[float]) -> Collapse:
    """Return what the seeds' paired differences show, turned so that their mean is positive."""
    values = np.asarray(leads, dtype=np.float64)
    fallen = [place for place in outliers(values.tolist()) if values[place] < np.median(values)]
    others = np.delete(values, fallen)
    lead = float(others.mean())
    fall = lead - float(values[fallen].mean()) if fallen else None
    overturns = lead / fall if fall and 0 < lead < fall else None
    return Collapse(len(fallen), len(values), rate_within(len(fallen), len(values)), fall, overturns)


def rate_within(count: int, total: int) -> float:
    """Return the largest rate that so many events leave possible: the bound of Clopper and Pearson."""
    from scipy.special import betaincinv

    return 1.0 if count == total else float(betaincinv(count + 1, total - count, CONFIDENCE))


@dataclass(frozen=True)
class Unseen:
    """A fall that no seed has shown, nor an example of a kind that the test set does not hold."""

    fall: float | None = None  # how far: as declared, or to what needs no model; None: unknown
    overturns: float | None = None  # the rate at which such falls undo the difference; None: no rate does
    needed: int | None = None  # seeds without such a fall that would exclude this rate

    def within(self, seeds: int) -> str:
        """Return that so many seeds do not exclude it, as a clause; empty where they do."""
        shown = f"{seeds} seeds without a fall leave a rate of {100 * rate_within(0, seeds):.2g} % possible"
        if self.fall is None:
            return f"{shown}, and how far one would fall is not known"
        if self.overturns is None or self.needed is None or seeds >= self.needed:
            return ""
        return (
            f"{shown}, and falls of {self.fall:.3g} undo the lead at {100 * self.overturns:.2g} % "
            f"({self.needed:,} seeds would exclude that)"
        )


def unseen(lead: float, fall: float | None) -> Unseen:
    """Return what falls that were not seen would do to a difference.

    Args:
        lead: the difference, turned so that it is positive.
    """
    if fall is None or not 0 < lead < fall:
        return Unseen(fall)
    rate = lead / fall
    return Unseen(fall, rate, math.floor(math.log(1 - CONFIDENCE) / math.log1p(-rate)) + 1)
