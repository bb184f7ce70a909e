"""False claims where a t test is weakest: families of margins, collapsing seeds, skewed examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np

from pipelines.comparison import behrens_fisher, margin, verdict
from pipelines.comparison.collapse import collapse
from pipelines.comparison.doubts import NO_DOUBTS, doubts
from pipelines.comparison.shrinkage import shrunken
from pipelines.comparison.significance import LEVEL, TwoWay, two_way
from scripts.simulations.variances import Truth, draw, effect

Values = Callable[[np.random.Generator], np.ndarray]  # paired differences (seeds, examples)
ARMS = (1, 3, 8, 24)


def tables(simulations: int, seed: int) -> Iterator[str]:
    """Yield the lines of the four tables."""
    yield from _families(simulations, seed)
    yield from _collapses(simulations, seed)
    yield from _skews(simulations, seed)
    yield from _curse(simulations, seed)


# ---- equivalence
def _families(simulations: int, seed: int) -> Iterator[str]:
    yield "Families with a false equivalent or non-inferior, %: all at -margin; half of them at +margin.\n"
    yield "| seeds | " + " | ".join(f"{arms} arm{'s' * (arms > 1)}: alone, **now**" for arms in ARMS) + " |"
    yield "|--:|" + "--:|" * len(ARMS)
    for num_seeds in (3, 5, 10):
        cells = []
        for arms in ARMS:
            found = [_family(num_seeds, arms, mixed, simulations, seed) for mixed in (False, True)]
            cells.append("; ".join(f"{100 * raw:.1f}, **{100 * now:.1f}**" for raw, now in found))
        yield f"| {num_seeds} | " + " | ".join(cells) + " |"
    yield ""


def _family(num_seeds: int, arms: int, mixed: bool, families: int, seed: int) -> tuple[float, float]:
    """Return how often a family has a false claim, by p values alone and by adjusted ones."""
    truth = Truth(num_seeds, 500, 0.5)
    one = draw(np.random.default_rng([seed, num_seeds, arms, mixed]), truth, families, arms)
    wide = 5.0  # the margin in true standard errors
    above = (np.arange(arms) % 2 == 1) & mixed
    shift = np.where(above, wide, -wide)
    halves = []
    for ratio in (one.ratio(wide + shift), -one.ratio(shift - wide)):
        half = behrens_fisher.p_value(ratio, one.share, truth.dfs) / 2
        halves.append(np.where(ratio > 0, half, 1 - half))
    raw, now = 0, 0
    for worse, better in zip(*halves):
        adjusted = np.array(margin.adjusted(list(zip(worse.tolist(), better.tolist()))))
        for place, sides in enumerate((np.stack([worse, better], axis=1), adjusted)):
            not_worse, inside = sides[:, 0] < LEVEL, (sides < LEVEL).all(axis=1)
            false = bool(np.where(above, inside, not_worse).any())
            raw, now = (raw + false, now) if place == 0 else (raw, now + false)
    return raw / families, now / families


# ---- better
def judged(result: TwoWay, declared: float | None, doubted: bool) -> str:
    """Return the word of a comparison of its own."""
    known = doubts(result, collapse(result.seed_differences, declared)) if doubted else NO_DOUBTS
    return verdict.verdict(result, result.p, None, num_planned=result.num_seeds, doubts=known).word


def _called_better(
    values: Values, simulations: int, rng: np.random.Generator, declared: float
) -> list[float]:
    """Return how often it is called better: by the test alone, with doubts, and with a declared fall."""
    found = np.zeros(3)
    for _ in range(simulations):
        drawn = values(rng)
        baseline, arm = (np.stack([side, np.ones_like(side)], axis=-1) for side in (0 * drawn, drawn))
        result = two_way(baseline, arm, lambda sums: sums[..., 0] / sums[..., 1])
        words = [judged(result, None, False), judged(result, None, True), judged(result, declared, True)]
        found += [word == "better" for word in words]
    return (100 * found / simulations).tolist()


def _collapses(simulations: int, seed: int) -> Iterator[str]:
    yield "An arm that is 1 point better, and in a tenth of its seeds 9 worse (true mean 0): called better, %"
    yield "\n| seeds | none fell, % | test alone | with doubts | **`collapse: 10` declared** |"
    yield "|--:|--:|--:|--:|--:|"
    for num_seeds in (3, 5, 10, 20):
        rng = np.random.default_rng([seed, num_seeds])

        def values(rng: np.random.Generator, num_seeds: int = num_seeds) -> np.ndarray:
            fallen = rng.random((num_seeds, 1)) < 0.1
            effects = rng.normal(1, 0.2, (num_seeds, 1)) - 10 * fallen
            return effects + rng.normal(0, 2, (1, 200)) + rng.normal(0, 2, (num_seeds, 200))

        alone, doubted, declared = _called_better(values, simulations, rng, 10.0)
        unseen = f"{100 * 0.9**num_seeds:.0f}"
        yield f"| {num_seeds} | {unseen} | {alone:.1f} | {doubted:.1f} | **{declared:.1f}** |"
    yield ""


def lognormal(num_examples: int, num_seeds: int = 5) -> Values:
    """Effects of examples with a long tail of losses, whose mean is 0."""

    def values(rng: np.random.Generator) -> np.ndarray:
        effects = np.exp(1.5**2 / 2) - rng.lognormal(0, 1.5, (1, num_examples))
        return effects + rng.normal(0, 1, (num_seeds, num_examples)) + rng.normal(0, 0.02, (num_seeds, 1))

    return values


def documents(num_examples: int, far: float, num_seeds: int = 5) -> Values:
    """Documents that gain 1, but for a share that loses so much that the mean is 0."""

    def values(rng: np.random.Generator) -> np.ndarray:
        worse = rng.random((1, num_examples)) < far
        effects = np.where(worse, 1 - 1 / far, 1.0) + rng.normal(0, 1, (1, num_examples))
        return effects + rng.normal(0, 0.5, (num_seeds, num_examples)) + rng.normal(0, 0.05, (num_seeds, 1))

    return values


def _skews(simulations: int, seed: int) -> Iterator[str]:
    yield "A few examples lose much (true mean 0, five seeds): called better, %"
    yield "\n| examples | number | none of them seen, % | test alone | **now** |\n|:--|--:|--:|--:|--:|"
    cases = [(f"lognormal, {n}", n, 0.0, lognormal(n)) for n in (60, 500, 2000)]
    cases += [
        (f"{100 * far:g} % of documents", n, far, documents(n, far))
        for far, n in product((0.01, 0.02), (60, 362, 1000))
    ]
    for name, number, far, values in cases:
        alone, now, _ = _called_better(values, simulations, np.random.default_rng([seed, number]), 10.0)
        unseen = f"{100 * (1 - far) ** number:.0f}" if far else "–"
        yield f"| {name} | {number} | {unseen} | {alone:.1f} | **{now:.1f}** |"
    yield ""


# ---- the winner's curse
def _curse(simulations: int, seed: int) -> Iterator[str]:
    yield "Mean estimate of a planted difference where it was found, over the truth:\n"
    yield (
        "| seeds | examples' share | "
        + " | ".join(f"power {100 * power:.0f} %: raw, **shrunken**" for power in (0.25, 0.5, 0.8, 0.95))
        + " |"
    )
    yield "|--:|--:|" + "--:|" * 4
    for num_seeds, examples in product((3, 5, 10), (0.1, 0.5)):
        truth = Truth(num_seeds, 500, examples)
        one = draw(np.random.default_rng([seed, num_seeds, int(10 * examples)]), truth, 4 * simulations)
        critical = behrens_fisher.critical_values(LEVEL, one.share, truth.dfs)
        cells = []
        for power in (0.25, 0.5, 0.8, 0.95):
            gain = effect(power)
            found = np.flatnonzero(one.ratio(gain) > critical)
            raw = (one.difference + gain)[found]
            small = [
                shrunken(*numbers) for numbers in zip(raw.tolist(), one.se[found], critical[found].tolist())
            ]
            cells.append(f"{raw.mean() / gain:.2f}, **{np.mean(small) / gain:.2f}**")
        yield f"| {num_seeds} | {examples:g} | " + " | ".join(cells) + " |"
