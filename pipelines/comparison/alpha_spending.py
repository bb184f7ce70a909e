"""Looking after every seed: which part of a level each look may use, so that all of them keep the level.

At the look after S of at most N seeds the level is `level * c * S / N`. c was simulated for differences of
seeds alone (a random walk, t with S - 1 degrees of freedom), where looking often helps most. Other shapes and
mixtures that allow any number of looks, take more seeds or find less (docs/statistics.md).
"""

from __future__ import annotations

import numpy as np

from pipelines.comparison.significance import MIN_SEEDS

FAMILIES = (1, 24, 100)  # comparisons that share 5 %
CONSTANTS = {  # most seeds -> c for each of FAMILIES, from 1.2 million walks
    3: (1.0, 1.0, 1.0),
    4: (0.64, 0.60, 0.57),
    5: (0.51, 0.47, 0.45),
    6: (0.44, 0.39, 0.37),
    8: (0.37, 0.32, 0.30),
    10: (0.33, 0.27, 0.26),
    12: (0.30, 0.25, 0.24),
    15: (0.28, 0.23, 0.22),
    20: (0.255, 0.205, 0.195),
    30: (0.235, 0.185, 0.17),
    50: (0.215, 0.17, 0.145),
}


def part_of_level(num_seeds: int, most_seeds: int, comparisons: int = 1) -> float:
    """Return the part of a level that the look after `num_seeds` may use, of looks after 3, 4, ... seeds.

    Args:
        comparisons: number of those that share the level.
    """
    most = max(most_seeds, num_seeds, MIN_SEEDS)
    by_family = [np.interp(np.log(most), np.log([*CONSTANTS]), column) for column in zip(*CONSTANTS.values())]
    constant = np.interp(np.log(max(1, comparisons)), np.log(FAMILIES), by_family)
    return float(constant) * num_seeds / most
