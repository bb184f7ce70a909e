"""False claims where a t test is weakest: families of margins, collapsing seeds, skewed examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np

from pipelines.comparison import behrens_fisher, margin, verdict
from pipelines.comparison.collapse import collapse, unseen
from pipelines.comparison.doubts import NO_DOUBTS, doubts
from pipelines.comparison.outliers import outliers
from pipelines.comparison.shrinkage import shrunken
from pipelines.comparison.significance import LEVEL, TwoWay, two_way
from scripts.simulations.variances import Truth, draw, effect

Values = Callable[[np.random.Generator], np.ndarray]  # paired differences (seeds, examples)
ARMS = (1, 3, 8, 24)


def tables(simulations: int, seed: int) -> Iterator[str]:
    """Yield the lines of the five tables."""
    yield from _families(simulations, seed)
    yield from _collapses(simulations, seed)
    yield from _skews(simulations, seed)
    yield from _curse(simulations, seed)
    yield from _outliers(20 * simulations, seed)


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
def judged(result: TwoWay, fall: float | None) -> str:
    """Return the word of a comparison of its own; without a fall, by the test alone."""
    side = np.sign(result.difference)
    known = NO_DOUBTS
    if fall is not None:
        seen = collapse((side * np.array(result.seed_differences)).tolist())
        known = doubts(result, seen, unseen(abs(result.difference), fall))
    return verdict.verdict(result, result.p, None, num_planned=result.num_seeds, doubts=known).word


def _called(values: Values, simulations: int, rng: np.random.Generator, fall: float) -> list[float]:
    """Return how often it is called better by the test alone, then usually better, then better, in %."""
    found = np.zeros(3)
    for _ in range(simulations):
        drawn = values(rng)
        baseline, arm = (np.stack([side, np.ones_like(side)], axis=-1) for side in (0 * drawn, drawn))
        result = two_way(baseline, arm, lambda sums: sums[..., 0] / sums[..., 1])
        alone, word = judged(result, None), judged(result, fall)
        found += [alone == "better", word == "usually better", word == "better"]
    return (100 * found / simulations).tolist()


def _collapses(simulations: int, seed: int) -> Iterator[str]:
    yield "An arm that is 1 point better, and 10 above what needs no model, in %."
    yield "1: it falls there in a tenth of its seeds, so that its true mean is 0; 2: it never falls.\n"
    yield "| seeds | none fell | 1: test alone | usually better | **better** | 2: usually | **better** |"
    yield "|--:|--:|--:|--:|--:|--:|--:|"
    for num_seeds in (3, 5, 10, 20, 28, 29, 40):
        rng = np.random.default_rng([seed, num_seeds])
        cells = []
        for rate in (0.1, 0.0):

            def values(
                rng: np.random.Generator, num_seeds: int = num_seeds, rate: float = rate
            ) -> np.ndarray:
                fallen = rng.random((num_seeds, 1)) < rate
                effects = rng.normal(1, 0.2, (num_seeds, 1)) - 10 * fallen
                return effects + rng.normal(0, 2, (1, 200)) + rng.normal(0, 2, (num_seeds, 200))

            alone, usually, better = _called(values, simulations, rng, 10.0)
            cells += [f"{alone:.1f}"] if rate else []
            cells += [f"{usually:.1f}", f"**{better:.1f}**"]
        yield f"| {num_seeds} | {100 * 0.9**num_seeds:.0f} | " + " | ".join(cells) + " |"
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
    yield "A few examples lose much (true mean 0, five seeds), in %\n"
    yield "| examples | number | none of them seen | by the test alone | usually better | **better** |"
    yield "|:--|--:|--:|--:|--:|--:|"
    cases = [(f"lognormal, {n}", n, 0.0, lognormal(n)) for n in (60, 500, 2000)]
    cases += [
        (f"{100 * far:g} % of documents", n, far, documents(n, far))
        for far, n in product((0.01, 0.02), (60, 362, 1000))
    ]
    for name, number, far, values in cases:
        rng = np.random.default_rng([seed, number])
        alone, usually, better = _called(values, simulations, rng, 1 / far if far else 10.0)
        hidden = f"{100 * (1 - far) ** number:.0f}" if far else "–"
        yield f"| {name} | {number} | {hidden} | {alone:.1f} | {usually:.1f} | **{better:.1f}** |"
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
    yield ""


# ---- seeds that stand out
def _outliers(draws: int, seed: int) -> Iterator[str]:
    yield "Comparisons of normal seeds of which one stands out by chance, %\n"
    yield "| 3 seeds | 5 seeds | 10 seeds |\n|--:|--:|--:|"
    rng = np.random.default_rng(seed)
    shares = [
        np.mean([bool(outliers(rng.normal(size=n).tolist())) for _ in range(draws)]) for n in (3, 5, 10)
    ]
    yield "| " + " | ".join(f"{100 * share:.0f}" for share in shares) + " |"
