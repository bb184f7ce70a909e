"""Seeds that stand out among the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.comparison.significance import MIN_SEEDS

OUTLIER_MADS = 5.0
NORMAL_MAD = 0.6745  # median absolute deviation of a standard normal


def outliers(differences: Sequence[float]) -> list[int]:
    """Return the places of seeds whose difference is more than 5 median absolute deviations from the median.

    The deviations are scaled to estimate a standard deviation (divided by 0.6745).
    """
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < MIN_SEEDS:
        return []
    away = np.abs(values - np.median(values))
    return np.flatnonzero(away > OUTLIER_MADS * np.median(away) / NORMAL_MAD).tolist()
