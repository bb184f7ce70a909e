"""Looking after every seed keeps the level, for one comparison and for a family."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from pipelines.comparison import behrens_fisher
from pipelines.comparison.alpha_spending import part_of_level
from pipelines.comparison.significance import two_way
from tests.pipelines.comparison.test_behrens_fisher import mean, p_values, with_count


@pytest.mark.parametrize(("most", "arms"), [(5, 1), (20, 1), (20, 8), (50, 1)])
def test_no_difference_is_found_at_any_look_in_more_than_one_of_twenty(most, arms):
    """Differences of seeds alone, where looking often helps most."""
    rng, families = np.random.default_rng(most + arms), 6000
    values = rng.standard_normal((families * arms, most))
    crossed = np.zeros(families * arms, dtype=bool)
    for seeds in range(3, most + 1):
        p = stats.ttest_1samp(values[:, :seeds], 0, axis=1).pvalue
        crossed |= p < 0.05 / arms * part_of_level(seeds, most, arms)
    error = crossed.reshape(families, arms).any(axis=1).mean()
    assert 0.035 < error <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / families)


def test_a_test_set_that_all_looks_share_makes_no_look_wrong():
    rng, comparisons, most, examples = np.random.default_rng(1), 1200, 12, 30
    values = np.sqrt(3.0) * rng.standard_normal((comparisons, most, 1))
    values = values + np.sqrt(examples) * rng.standard_normal((comparisons, 1, examples))
    values += 2 * rng.standard_normal((comparisons, most, examples))
    crossed = np.zeros(comparisons, dtype=bool)
    for seeds in range(3, most + 1):
        crossed |= p_values(values[:, :seeds]) < 0.05 * part_of_level(seeds, most)
    assert crossed.sum() <= stats.binom.ppf(0.999, comparisons, 0.05)


def test_later_looks_may_use_more_and_more_looks_or_comparisons_leave_less_to_each():
    parts = [part_of_level(seeds, 20) for seeds in range(3, 21)]
    assert all(one < other for one, other in pairwise(parts))
    assert all(part_of_level(most, most) > part_of_level(most + 1, most + 1) for most in range(3, 50))
    assert part_of_level(9, 20, 24) < part_of_level(9, 20, 3) < part_of_level(9, 20)
    assert part_of_level(3, 3) == 1


def test_the_interval_of_a_look_is_that_of_its_part_of_the_level():
    from pipelines.comparison.significance import delete_one, differing, paired_test

    rng = np.random.default_rng(2)
    tables = [with_count(np.zeros((4, 30))), with_count(rng.normal(0, 1, (4, 1)) + rng.normal(0, 4, (4, 30)))]
    sides = [[delete_one(one, mean) for one in side] for side in tables]
    differs = [differing(*pair) for pair in zip(*tables)]
    whole, part = paired_test(*sides, differs), paired_test(*sides, differs, 0.1)
    assert whole == two_way(*tables, mean)
    assert (part.p, part.se) == (whole.p, whole.se)
    share = min(1, whole.variance.seeds / whole.variance.total)
    for level, (low, high) in ((0.005, part.ci95), (0.01, part.ci90)):
        half = behrens_fisher.critical_value(level, share, (3, 29)) * whole.se
        assert (low, high) == pytest.approx((whole.difference - half, whole.difference + half))
