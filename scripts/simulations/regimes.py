"""Error rates and power of one comparison on data whose truth is known, from statistics of examples.

Every regime draws two arms again and again: without a difference (share of p < 0.05: the type-I error) and
with one (share of 95 % intervals that hold it; share found when it is as large as the average MDE80).

The last line is about `attnlab plan`: the largest distance between the predicted power and the share of
simulated comparisons that find the difference, over 27 settings (3, 5, 10 seeds; 120, 250, 500 examples; each
part of the variance dominating in turn).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, stdtr

from pipelines.comparison import power, significance
from pipelines.metrics import load

Draw = Callable[[np.random.Generator, float], tuple[np.ndarray, np.ndarray]]
F1, BLEU = load.load("entity_f1").score, load.load("bleu").score


@dataclass(frozen=True)
class Regime:
    """A way in which runs differ. `draw` gives statistics of both arms; its number is the arm's true gain."""

    name: str
    draw: Draw
    value: Callable[[np.ndarray], np.ndarray]
    clusters: list[int] | None = None
    truth: Callable[[float], float] = lambda gain: gain  # from gain to difference of scores


def mean(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def gaussian(
    num_seeds: int, num_examples: int, seeds: float, examples: float, rest: float, cluster_len: int = 1
) -> Draw:
    """Paired differences with a seed effect, an effect of examples (or clusters) and the rest, as sds."""

    def draw(rng: np.random.Generator, gain: float) -> tuple[np.ndarray, np.ndarray]:
        groups = -(-num_examples // cluster_len)
        shared = np.repeat(rng.normal(0, examples, (1, groups)), cluster_len, axis=1)[:, :num_examples]
        values = gain + rng.normal(0, seeds, (num_seeds, 1)) + shared
        values = values + rng.normal(0, rest, (num_seeds, num_examples))
        both = [np.stack([v, np.ones_like(v)], axis=-1) for v in (np.zeros_like(values), values)]
        return both[0], both[1]

    return draw


def skills(
    rng: np.random.Generator, num_seeds: int, num_examples: int, gain: float, seeds: float, lasting: float
) -> Iterator[np.ndarray]:
    """Yield for each arm the probability of a right answer by seed and example; `gain` is in logits."""
    difficulty = rng.normal(0, 1, num_examples)
    for arm_gain in (0.0, gain):
        effect = rng.normal(0, seeds, (num_seeds, 1)) + rng.normal(0, lasting, (1, num_examples))
        yield expit(0.5 + arm_gain + difficulty + effect)


def entities(num_seeds: int, num_examples: int, seeds: float = 0.05, lasting: float = 0.5) -> Draw:
    """Entity counts of arms with seed effects and lasting effects of examples."""

    def draw(rng: np.random.Generator, gain: float) -> tuple[np.ndarray, np.ndarray]:
        gold = np.broadcast_to(rng.poisson(1.5, num_examples), (num_seeds, num_examples))
        arms = []
        for skill in skills(rng, num_seeds, num_examples, gain, seeds, lasting):
            right = rng.binomial(gold, skill)
            arms.append(np.stack([right, right + rng.poisson(1 - skill), gold], axis=-1).astype(float))
        return arms[0], arms[1]

    return draw


def translations(num_seeds: int, num_examples: int, seeds: float = 0.03, lasting: float = 0.4) -> Draw:
    """n-gram counts of arms with seed effects and lasting effects of sentences."""

    def draw(rng: np.random.Generator, gain: float) -> tuple[np.ndarray, np.ndarray]:
        length = np.broadcast_to(rng.integers(5, 30, num_examples), (num_seeds, num_examples))
        arms = []
        for skill in skills(rng, num_seeds, num_examples, gain, seeds, lasting):
            made = np.maximum(4, length + rng.integers(-2, 3, length.shape))
            totals = [made - order for order in range(4)]
            matches = [rng.binomial(total, skill ** (1 + 0.6 * order)) for order, total in enumerate(totals)]
            arms.append(np.stack([made, length, *matches, *totals], axis=-1).astype(float))
        return arms[0], arms[1]

    return draw


def population(draw_of: Callable[[int, int], Draw], value: Callable) -> Callable[[float], float]:
    """Return the function from a gain to its true difference of scores, from many seeds and examples."""

    def truth(gain: float) -> float:
        arms = draw_of(40, 20_000)(np.random.default_rng(1), gain)
        totals = [arm.sum(axis=(0, 1)) for arm in arms]
        return float(value(totals[1]) - value(totals[0]))

    return truth


def regimes() -> list[Regime]:
    found = [
        Regime(f"mean, {name}, S={s}, N=500", gaussian(s, 500, *sds), mean)
        for name, s, sds in (
            ("seeds dominate", 3, (0.10, 0.5, 1.0)),
            ("seeds dominate", 5, (0.10, 0.5, 1.0)),
            ("examples a tenth of seeds", 3, (0.10, 0.4, 0.2)),
            ("examples a tenth of seeds", 5, (0.10, 0.32, 0.2)),
            ("balanced", 5, (0.03, 0.8, 1.0)),
            ("examples dominate", 5, (0.005, 1.5, 1.0)),
            ("examples dominate", 10, (0.005, 1.5, 1.0)),
            ("nothing lasts", 5, (0.0, 0.0, 1.0)),
        )
    ]
    five = [n // 5 for n in range(500)]
    found.append(Regime("mean, clusters of 5, S=5, N=500", gaussian(5, 500, 0.01, 1.0, 0.7, 5), mean, five))
    for name, make, value in (("entity F1", entities, F1), ("BLEU", translations, BLEU)):
        for s, n in ((3, 200), (5, 200), (5, 1000)):
            found.append(Regime(f"{name}, S={s}, N={n}", make(s, n), value, truth=population(make, value)))
    return found


def simulate(regime: Regime, simulations: int, rng: np.random.Generator) -> dict[str, float]:
    """Return shares over simulations: false alarms of three methods, then coverage and power."""
    counts = dict.fromkeys(("one seed", "seeds only", "two-way", "coverage", "power"), 0)
    sizes = []
    for _ in range(simulations):
        baseline, arm = regime.draw(rng, 0.0)
        result = significance.two_way(baseline, arm, regime.value, regime.clusters)
        single = significance.two_way(baseline[:1], arm[:1], regime.value)
        sizes.append(result.mde80)
        counts["one seed"] += single.p < significance.LEVEL
        counts["two-way"] += result.p < significance.LEVEL
        d = np.array(result.seed_differences)
        t = d.mean() / (d.std(ddof=1) / math.sqrt(len(d)))
        counts["seeds only"] += 2 * stdtr(len(d) - 1, -abs(t)) < significance.LEVEL
    gain = gain_of(regime, float(np.mean(sizes)))
    truth = regime.truth(gain)
    for _ in range(simulations):
        result = significance.two_way(*regime.draw(rng, gain), regime.value, regime.clusters)
        counts["coverage"] += result.ci95[0] <= truth <= result.ci95[1]
        counts["power"] += result.p < significance.LEVEL and result.difference > 0
    return {name: count / simulations for name, count in counts.items()}


def gain_of(regime: Regime, difference: float) -> float:
    """Return the gain whose true difference is `difference`, by bisection."""
    low, high = 0.0, 1.0
    while regime.truth(high) < difference:
        high *= 2
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if regime.truth(middle) < difference else (low, middle)
    return (low + high) / 2


def worst_prediction(simulations: int, rng: np.random.Generator) -> float:
    """Return the largest distance, in points, between the predicted power (80 %) and the share found."""
    gaps = []
    noises = ((0.1, 0.5, 1.0), (0.05, 0.8, 1.0), (0.005, 1.5, 1.0))
    for num_seeds, num_examples, noise in itertools.product((3, 5, 10), (120, 250, 500), noises):
        parts = power.Components(*(sd**2 for sd in noise))
        gain = power.detectable(parts, num_seeds, num_examples)
        draw = gaussian(num_seeds, num_examples, *noise)
        found = sum(
            significance.two_way(*draw(rng, gain), mean).p < significance.LEVEL for _ in range(simulations)
        )
        gaps.append(abs(found / simulations - significance.POWER))
    return 100 * max(gaps)


def tables(simulations: int, seed: int) -> Iterator[str]:
    """Yield the lines of the table, then that on predicted power."""
    columns = ("regime", "one seed, paired t", "t over seeds", "**two-way**", "coverage", "power at MDE80")
    yield f"| {' | '.join(columns)} |"
    yield "|:--|--:|--:|--:|--:|--:|"
    for place, regime in enumerate(regimes()):
        shares = [
            100 * s for s in simulate(regime, simulations, np.random.default_rng([seed, place])).values()
        ]
        yield f"| {regime.name} | " + " | ".join(f"{share:.1f}" for share in shares) + " |"
    worst = worst_prediction(simulations, np.random.default_rng(seed))
    yield f"\nA predicted power of 80 % was at most {worst:.1f} points off in 27 settings."
