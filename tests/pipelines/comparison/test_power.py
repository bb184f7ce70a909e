"""The predicted power is the share of simulated comparisons that detect the difference."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from pipelines.comparison import power, significance
from pipelines.comparison.power import Components, components, detectable

SEEDY = Components(0.25, 1.0, 625.0)
BALANCED = Components(0.25, 225.0, 625.0)
LASTING = Components(0.01, 225.0, 100.0)
FLEETING = Components(0.0, 0.0, 400.0)


def mean(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def drawn(rng, parts: Components, difference: float, num_seeds: int, num_clusters: int):
    """Statistics of two arms whose paired differences have the variance parts `parts`."""
    shape = {"seeds": (num_seeds, 1), "examples": (1, num_clusters), "both": (num_seeds, num_clusters)}
    noise = sum(rng.normal(0, math.sqrt(getattr(parts, name)), size) for name, size in shape.items())
    values = difference + noise
    return [np.stack([side, np.ones_like(side)], axis=-1) for side in (np.zeros_like(values), values)]


@pytest.mark.parametrize(
    ("parts", "num_seeds", "num_clusters"),
    [(SEEDY, 3, 300), (BALANCED, 3, 200), (LASTING, 3, 200), (BALANCED, 10, 150), (FLEETING, 4, 150)],
)
@pytest.mark.parametrize("wanted", [0.5, 0.8])
def test_the_promised_power_is_the_share_of_simulated_comparisons_that_find_it(
    parts, num_seeds, num_clusters, wanted
):
    rng = np.random.default_rng(5)
    difference = detectable(parts, num_seeds, num_clusters, wanted=wanted)
    found = [
        significance.two_way(*drawn(rng, parts, difference, num_seeds, num_clusters), mean).p < 0.05
        for _ in range(400)
    ]
    assert np.mean(found) == pytest.approx(wanted, abs=4 * math.sqrt(wanted * (1 - wanted) / 400))


def test_at_three_noisy_seeds_it_promises_less_than_mde80_does():
    se = math.sqrt(SEEDY.variance(3, 300))
    rule_of_thumb = (4.303 + 1.061) * se * 0.886  # with the estimated se, which is too small on average
    assert power.power(SEEDY, rule_of_thumb, 3, 300) == pytest.approx(0.68, abs=0.02)


def test_the_components_of_a_comparison_are_those_it_was_drawn_from():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(200):
        result = significance.two_way(*drawn(rng, BALANCED, 0.0, 6, 80), mean)
        found.append(components(result.variance, 6, 80))
    for name, near in (("examples", 0.1), ("both", 0.05)):
        values = [getattr(one, name) for one in found]
        assert np.mean(values) == pytest.approx(getattr(BALANCED, name), rel=near)
    # cut off at 0, so above the truth rather than below
    assert 0.2 < np.mean([one.seeds for one in found]) < 3.0


def test_one_seed_tells_nothing_about_seeds():
    with pytest.raises(ValueError, match="at least 2 seeds"):
        components({"seeds": 0.0, "examples": 1.0, "interaction": 0.0, "total": 1.0}, 1, 50)


def test_without_a_difference_it_finds_what_the_level_allows():
    assert power.power(LASTING, 0.0, 5, 500) == pytest.approx(0.05, abs=0.01)
    assert power.power(LASTING, 0.0, 5, 500, level=0.01) == pytest.approx(0.01, abs=0.005)


@pytest.mark.parametrize("parts", [SEEDY, BALANCED, LASTING, FLEETING])
def test_more_seeds_more_examples_and_larger_differences_never_find_less(parts):
    by_seeds = [power.power(parts, 1.0, n, 100) for n in range(2, 30)]
    by_clusters = [power.power(parts, 1.0, 4, n) for n in range(10, 4000, 97)]
    by_size = [power.power(parts, d / 10, 4, 100) for d in range(40)]
    for found in (by_seeds, by_clusters, by_size):
        assert all(b >= a - 1e-9 for a, b in pairwise(found))


@pytest.mark.parametrize("parts", [SEEDY, BALANCED, LASTING])
def test_the_fewest_seeds_are_enough_and_one_less_is_not(parts):
    needed = power.seeds_needed(parts, 2.8, 300)
    assert power.power(parts, 2.8, needed, 300) >= 0.8
    assert needed == 2 or power.power(parts, 2.8, needed - 1, 300) < 0.8


def test_the_fewest_clusters_are_enough_and_one_less_is_not():
    needed = power.clusters_needed(LASTING, 0.7, 5)
    assert power.power(LASTING, 0.7, 5, needed) >= 0.8 > power.power(LASTING, 0.7, 5, needed - 1)


def test_what_the_examples_hide_no_number_of_seeds_finds():
    floor = power.floor_of_seeds(LASTING, 200)
    assert power.seeds_needed(LASTING, 0.95 * floor, 200) is None
    assert power.seeds_needed(LASTING, 1.05 * floor, 200) is not None
    assert detectable(LASTING, 900, 200) == pytest.approx(floor, rel=0.01)


def test_what_the_seeds_hide_no_number_of_examples_finds():
    assert power.clusters_needed(SEEDY, 0.5, 3) is None


def test_caution_is_largest_where_a_pilot_knows_least():
    bounds = [SEEDY.cautious(n).seeds / SEEDY.seeds for n in (2, 3, 5, 20)]
    assert bounds == pytest.approx([15.58, 4.48, 2.43, 1.37], rel=0.02)  # (n - 1) / chi-square's lower fifth
    assert SEEDY.cautious(2).examples == SEEDY.examples


def test_runs_that_do_not_vary_have_power_one():
    assert power.power(Components(0, 0, 0), 0.1, 3, 50) == 1.0
    assert detectable(Components(0, 0, 0), 3, 50) == 0.0
