"""The summary over cells: how often its intervals hold, and how often equal groups are told apart."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from pipelines.comparison.summary import summarise

CELLS, SPREADS = (3, 6, 12), (0.0, 1.0)


def tables(simulations: int, seed: int) -> Iterator[str]:
    """Yield the lines of one table; errors of cells are drawn from 0.3 to 1.5 margins."""
    yield "Summaries over cells without a difference, in %; groups: three, of equal sizes.\n"
    yield "| cells | true spread, margins | interval holds 0 | prediction holds a new cell | groups differ |"
    yield "|--:|--:|--:|--:|--:|"
    for cells, spread in product(CELLS, SPREADS):
        rng = np.random.default_rng([seed, cells, int(spread)])
        found = np.zeros(3)
        for _ in range(simulations):
            errors = rng.uniform(0.3, 1.5, cells)
            values = rng.normal(0, np.hypot(spread, errors))
            one = summarise("arm", values.tolist(), errors.tolist(), ["a", "b", "c"] * (cells // 3), "family")
            assert one is not None
            new = rng.normal(0, spread)
            held = one.interval[0] <= 0 <= one.interval[1]
            ahead = one.prediction[0] <= new <= one.prediction[1]
            found += [held, ahead, one.p_groups is not None and one.p_groups < 0.05]
        told = [f"{100 * share:.1f}" for share in found / simulations]
        if cells == 3:
            told[2] = "–"
        yield f"| {cells} | {spread:g} | " + " | ".join(told) + " |"
