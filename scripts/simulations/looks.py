"""Looking after every seed: false claims at any look, and the seeds that it takes against a fixed design."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from scipy.special import stdtr

from pipelines.comparison import behrens_fisher, power
from pipelines.comparison.alpha_spending import part_of_level
from pipelines.comparison.significance import LEVEL, MIN_SEEDS
from scripts.simulations.variances import Estimates

CLUSTERS = 500
MOST, FIXED = 20, 10
EXAMPLES = (0.0, 0.05, 0.3, 0.7, 0.95)
ARMS = (1, 3, 8, 24)


def tables(simulations: int, seed: int) -> Iterator[str]:
    """Yield the lines of the three tables."""
    yield "Families with a claim at any look after 3, 4, ... seeds, without a difference, %\n"
    yield "| most seeds | examples' share | " + " | ".join(f"{n} arm{'s' * (n > 1)}" for n in ARMS) + " |"
    yield "|--:|--:|" + "--:|" * len(ARMS)
    for most, examples in product((5, 10, MOST), EXAMPLES):
        errors = _errors(
            most, examples, simulations, np.random.default_rng([seed, most, int(100 * examples)])
        )
        cells = [f"{100 * error:.1f}" for error in errors]
        yield f"| {most} | {examples:g} | " + " | ".join(cells) + " |"
    yield ""
    yield from _costs(10 * simulations, seed)
    yield from _shapes(10 * simulations, seed)


def walks(rng: np.random.Generator, parts: power.Components, most: int, *shape: int) -> Iterator[Estimates]:
    """Yield what the looks after 3, 4, ... seeds estimate; all share one test set."""
    seeds = np.sqrt(parts.seeds) * rng.standard_normal((most, *shape))
    lasting = np.sqrt(parts.examples / CLUSTERS)
    examples = lasting * rng.standard_normal(shape)
    known = lasting**2 * rng.chisquare(CLUSTERS - 1, shape) / (CLUSTERS - 1)
    for count in range(MIN_SEEDS, most + 1):
        spread = seeds[:count].var(axis=0, ddof=1) / count
        total = known + spread
        yield Estimates(seeds[:count].mean(axis=0) + examples, np.sqrt(total), spread / total)


def shares(examples: float, num_seeds: int) -> power.Components:
    """Return parts of which the examples have a share of the variance after `num_seeds`, which is then 1."""
    return power.Components((1 - examples) * num_seeds, examples * CLUSTERS, 0.0)


def _errors(most: int, examples: float, families: int, rng: np.random.Generator) -> list[float]:
    crossed = {arms: np.zeros(families, dtype=bool) for arms in ARMS}
    for count, one in enumerate(
        walks(rng, shares(examples, most // 2), most, families, max(ARMS)), MIN_SEEDS
    ):
        ratio = np.abs(one.ratio())
        for arms in ARMS:
            level = LEVEL / arms * part_of_level(count, most, arms)
            bar = behrens_fisher.critical_values(level, one.share[:, :arms], (count - 1.0, CLUSTERS - 1.0))
            crossed[arms] |= (ratio[:, :arms] > bar).any(axis=1)
    return [float(crossed[arms].mean()) for arms in ARMS]


def _costs(draws: int, seed: int) -> Iterator[str]:
    yield f"At most {MOST} seeds against {FIXED}, fixed; in MDE80 of the fixed design; %\n"
    yield "| examples' share | margin | difference | fixed: found, equal | sequential: found, equal | seeds |"
    yield "|--:|--:|--:|--:|--:|--:|"
    for examples, margin, size in product((0.1, 0.5), (1.0, 2.0), (0.0, 0.5, 1.0, 2.0)):
        parts = shares(examples, FIXED)
        mde = power.detectable(parts, FIXED, CLUSTERS)
        rng = np.random.default_rng([seed, int(10 * examples), int(10 * size)])
        found, equal, stop = (np.zeros(draws, dtype=kind) for kind in (bool, bool, int))
        fixed = ""
        for count, one in enumerate(walks(rng, parts, MOST, draws), MIN_SEEDS):
            if count == FIXED:
                fixed = ", ".join(
                    f"{100 * s.mean():.0f}" for s in _words(one, size * mde, margin * mde, count, 1)
                )
            part = part_of_level(count, MOST)
            better, same = _words(one, size * mde, margin * mde, count, part)
            going = stop == 0
            found |= going & better
            equal |= going & same
            stop = np.where(going & (better | same), count, stop)
        seeds = np.where(stop == 0, MOST, stop).mean()
        told = f"{100 * found.mean():.0f}, {100 * equal.mean():.0f}"
        yield f"| {examples:g} | {margin:g} | {size:g} | {fixed} | **{told}** | **{seeds:.1f}** |"


def _words(
    one: Estimates, difference: float, margin: float, count: int, part: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return which comparisons are better or worse, and which of the others are equivalent."""
    dfs = (count - 1.0, CLUSTERS - 1.0)
    estimate = one.difference + difference
    wide, narrow = (
        behrens_fisher.critical_values(level * part, one.share, dfs) * one.se for level in (LEVEL, 2 * LEVEL)
    )
    better = np.abs(estimate) > wide
    return better, ~better & (np.abs(estimate) + narrow < margin)


SHAPES = {"constant": 0.0, "root": 0.5, "linear": 1.0, "quadratic": 2.0, "cubic": 3.0}  # powers of S / N


def _shapes(draws: int, seed: int) -> Iterator[str]:
    """Yield what each shape of the level finds where seeds are all the noise, at 5 % over all looks."""
    yield f"\nA difference of one MDE80 of {FIXED} seeds, noise of the seeds alone, at most {MOST} seeds\n"
    yield "| level after S of N seeds | c | found, % | seeds |\n|:--|--:|--:|--:|"
    counts = np.arange(MIN_SEEDS, MOST + 1)
    size = power.detectable(shares(0.0, FIXED), FIXED, CLUSTERS)

    def tails(difference: float) -> np.ndarray:
        looks = walks(np.random.default_rng([seed, 1]), shares(0.0, FIXED), MOST, draws)
        ratios = [np.abs(one.difference + difference) / one.se for one in looks]
        return np.stack([2 * stdtr(count - 1.0, -ratio) for count, ratio in zip(counts, ratios)], axis=1)

    null, planted = tails(0.0), tails(size)
    for name, exponent in SHAPES.items():
        shape = (counts / MOST) ** exponent
        c = float(np.quantile((null / shape).min(axis=1), LEVEL)) / LEVEL
        crossed = planted <= LEVEL * c * shape
        found = crossed.any(axis=1)
        seeds = np.where(found, counts[crossed.argmax(axis=1)], MOST).mean()
        yield f"| {name} | {c:.3f} | {100 * found.mean():.0f} | {seeds:.1f} |"
