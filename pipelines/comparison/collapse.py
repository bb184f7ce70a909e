"""Seeds of an arm that collapse: how often they may, and whether that overturns a gain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.comparison.outliers import outliers

CONFIDENCE = 0.95  # one-sided


@dataclass(frozen=True)
class Collapse:
    """The seeds of an arm that fell far below its others, and what their rate may be."""

    seeds: int  # that collapsed
    of: int
    rate: float  # upper 95 % bound of Clopper and Pearson
    fall: float | None = (
        None  # of a collapsed seed below the others: measured, or declared; None: none is known
    )
    overturns: float | None = (
        None  # the rate at which such falls undo the gain of the others; None: nothing to undo
    )

    @property
    def overturned(self) -> bool:
        """Whether a rate within the bound undoes the gain."""
        return self.overturns is not None and self.overturns <= self.rate

    @property
    def sentence(self) -> str:
        """How often seeds may collapse, as a clause."""
        text = f"{self.seeds} of {self.of} seeds collapsed: up to {100 * self.rate:.0f} % may"
        if self.overturns is None or self.fall is None:
            return text
        return f"{text}, and falls of {self.fall:.3g} undo the gain at {100 * self.overturns:.0f} %"


def collapse(differences: Sequence[float], declared: float | None = None) -> Collapse:
    """Return what the seeds' paired differences show.

    Args:
        declared: a fall that the ablation wants to be excluded.
    """
    from scipy.special import betaincinv

    values = np.asarray(differences, dtype=np.float64)
    fallen = [place for place in outliers(values.tolist()) if values[place] < np.median(values)]
    others = np.delete(values, fallen)
    gain = float(others.mean())
    falls = [gain - float(values[fallen].mean())] if fallen else []
    fall = max([*falls, *([declared] if declared else [])], default=None)
    count, total = len(fallen), len(values)
    rate = 1.0 if count == total else float(betaincinv(count + 1, total - count, CONFIDENCE))
    overturns = gain / fall if fall and 0 < gain < fall else None
    return Collapse(count, total, rate, fall, overturns)
