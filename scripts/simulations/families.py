"""Error of a family of comparisons without any difference, over seeds, shares of the variance and arms."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from scripts.simulations.variances import RULES, Truth, draw, effect

SEEDS, ARMS = (3, 4, 5, 7, 10), (1, 3, 8, 24)
EXAMPLES = (0.0, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 1.0)
CLUSTERS = (30, 500)
LEVEL = 0.05


def tables(families: int, seed: int) -> Iterator[str]:
    """Yield the lines of both tables: the worst family of each row, then power."""
    yield f"Family-wise error, % of {families:,} families without a difference; the worst of each row, over"
    yield "30 or 500 clusters, and noise that lasts, or of which half is new for every seed.\n"
    yield (
        "| seeds | examples' share | "
        + " | ".join(f"{arms} arm{'s' * (arms > 1)}: before, mean, **now**" for arms in ARMS)
        + " |"
    )
    yield "|--:|--:|" + "--:|" * len(ARMS)
    worst = dict.fromkeys(RULES, 0.0)
    for num_seeds, examples in product(SEEDS, EXAMPLES):
        errors = _errors(num_seeds, examples, families, seed)
        cells = []
        for arms in ARMS:
            found = {rule: max(one[rule, arms] for one in errors) for rule in RULES}
            worst = {rule: max(worst[rule], share) for rule, share in found.items()}
            old, mean, now = (f"{100 * found[rule]:.1f}" for rule in RULES)
            cells.append(f"{old}, {mean}, **{now}**")
        yield f"| {num_seeds} | {examples:g} | " + " | ".join(cells) + " |"
    yield "\nWorst cell: " + ", ".join(f"{rule} {100 * share:.1f} %" for rule, share in worst.items()) + ".\n"
    yield from _powers(families, seed)


def _errors(num_seeds: int, examples: float, families: int, seed: int) -> list[dict[tuple[str, int], float]]:
    found = []
    for num_clusters, new in product(CLUSTERS, (0.0, 0.5)):
        # Noise that is new for every seed and example shows in both parts; it replaces some of the seeds'.
        truth = Truth(num_seeds, num_clusters, examples, new * (1 - examples))
        rng = np.random.default_rng([seed, num_seeds, int(100 * examples), num_clusters, int(10 * new)])
        one = draw(rng, truth, families, max(ARMS))
        ratio = np.abs(one.ratio())
        found.append(
            {
                (rule, arms): float(
                    (ratio > critical(LEVEL / arms, one.share, truth.dfs))[:, :arms].any(axis=1).mean()
                )
                for rule, critical in RULES.items()
                for arms in ARMS
            }
        )
    return found


def _powers(draws: int, seed: int) -> Iterator[str]:
    yield "Power, % found of a difference of 1.5 times what known variances would find four times in five.\n"
    yield (
        "| seeds | examples' share | "
        + " | ".join(f"{arms} arm{'s' * (arms > 1)}: before, mean, **now**" for arms in ARMS)
        + " |"
    )
    yield "|--:|--:|" + "--:|" * len(ARMS)
    for num_seeds, examples in product((3, 5, 10), (0.0, 0.1, 0.5, 0.9)):
        truth = Truth(num_seeds, 500, examples)
        one = draw(np.random.default_rng([seed, num_seeds, int(100 * examples)]), truth, 10 * draws)
        cells = []
        for arms in ARMS:
            level = LEVEL / arms
            ratio = one.ratio(1.5 * effect(level=level))
            shares = [(ratio > critical(level, one.share, truth.dfs)).mean() for critical in RULES.values()]
            old, mean, now = (f"{100 * share:.0f}" for share in shares)
            cells.append(f"{old}, {mean}, **{now}**")
        yield f"| {num_seeds} | {examples:g} | " + " | ".join(cells) + " |"
