"""The distribution behind p and interval: against integrals and printed tables; its error at every level."""

import math
from itertools import pairwise, product

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad
from scipy.special import stdtr

from pipelines.comparison import behrens_fisher
from pipelines.comparison.significance import two_way


def convolution(ratio, share, dfs):
    """P(|sqrt(w) T1 + sqrt(1 - w) T2| > ratio), as an integral over T2."""
    if share == 1:
        return 2 * stats.t.sf(ratio, dfs[0])
    first, second = math.sqrt(share), math.sqrt(1 - share)

    def at(y):
        return stats.t.pdf(y, dfs[1]) * stdtr(dfs[0], -(ratio - second * y) / first)

    turn = ratio / second  # where T1 alone has to do nothing
    edges = sorted({-1e4, -50, -5, 0, turn - 5 * first, turn, turn + 5 * first, 5, 50, 1e4})
    return 2 * sum(quad(at, *ends, epsabs=1e-15, limit=200)[0] for ends in pairwise(edges))


@pytest.mark.parametrize(("ratio", "share"), [*product([0.7, 2.1, 4.0], [0.02, 0.4, 0.9])])
@pytest.mark.parametrize("dfs", [(1, 30), (2, 9), (2, 499), (4, 29), (9, 3), (19, 1e5)])
def test_a_p_value_is_the_integral(ratio, share, dfs):
    assert behrens_fisher.p_value(ratio, share, dfs) == pytest.approx(
        convolution(ratio, share, dfs), rel=1e-5
    )


@pytest.mark.parametrize("df", [1, 2, 9, 60, 1e5])
def test_one_estimate_alone_is_a_t(df):
    for dfs, share in (((df, 40), 1.0), ((3, df), 0.0), ((0, df), 0.0)):
        ratios = np.array([0.3, 2.0, 4.0])
        found = behrens_fisher.p_value(ratios, share, dfs)
        assert found == pytest.approx(2 * stats.t.sf(ratios, df), rel=1e-6)


@pytest.mark.parametrize(
    ("dfs", "printed"),
    [
        ((6, 6), (2.447, 2.440, 2.435, 2.435, 2.435, 2.440, 2.447)),
        ((12, 8), (2.306, 2.292, 2.262, 2.229, 2.201, 2.183, 2.179)),
    ],
)
def test_critical_values_are_those_of_fisher_and_yates(dfs, printed):
    """Table VI, 5 %, at 0, 15, ... 90 degrees: the tangent is the ratio of the two standard errors."""
    share = np.square(np.sin(np.radians(np.arange(0, 91, 15))))
    assert behrens_fisher.critical_value(0.05, share, dfs) == pytest.approx(printed, abs=1e-3)


@pytest.mark.parametrize("dfs", [(0, 11), (1, 100), (2, 29), (9, 499)])
def test_the_critical_value_is_where_p_is_the_level(dfs):
    shares = np.linspace(0, 1, 9) if dfs[0] else np.zeros(1)
    for level in (0.4, 0.05, 0.05 / 24, 1e-6):
        critical = behrens_fisher.critical_value(level, shares, dfs)
        assert behrens_fisher.p_value(critical, shares, dfs) == pytest.approx(level, rel=1e-9)
        curve = behrens_fisher.critical_values(level, shares, dfs)
        assert curve == pytest.approx(critical, rel=2e-3 if level < 0.01 else 3e-4)


def size(level, share, num_seeds):
    """How often p < level without a difference, where the variance of the examples is known; an integral.

    share: true share of the seeds in the variance.
    """
    drawn = share * stats.chi2.ppf((np.arange(4000) + 0.5) / 4000, num_seeds - 1) / (num_seeds - 1)
    total = drawn + 1 - share
    critical = behrens_fisher.critical_values(level, drawn / total, (num_seeds - 1, 1e6))
    return float(np.mean(2 * stats.norm.sf(critical * np.sqrt(total))))


@pytest.mark.parametrize("num_seeds", [3, 4, 5, 7, 10])
@pytest.mark.parametrize("arms", [1, 3, 8, 24])
def test_no_level_of_a_family_is_exceeded_whatever_the_share_of_the_seeds(num_seeds, arms):
    level = 0.05 / arms
    sizes = [size(level, share, num_seeds) for share in (0, 0.05, 0.3, 0.5, 0.7, 0.9, 0.95, 0.98, 1.0)]
    assert max(sizes) <= 1.01 * level  # one mean number of degrees of freedom: 4.9 times the level
    assert sizes[0] == pytest.approx(level, rel=0.01)
    assert sizes[-1] == pytest.approx(level, rel=0.05)  # 4,000 draws


@pytest.mark.parametrize(("num_seeds", "share", "arms"), [(3, 0.95, 24), (5, 0.5, 3)])
def test_a_family_without_differences_has_a_claim_in_at_most_one_of_twenty(num_seeds, share, arms):
    """Whole comparisons of examples, of which half of the noise lasts; Holm's first step."""
    rng, families, examples = np.random.default_rng(num_seeds * arms), 800, 30
    shape = (families * arms, num_seeds, examples)
    values = math.sqrt(share * num_seeds) * rng.standard_normal((shape[0], num_seeds, 1))
    values = values + math.sqrt((1 - share) * examples) * rng.standard_normal((shape[0], 1, examples))
    values += math.sqrt((1 - share) * examples) * rng.standard_normal(shape)
    found = p_values(values)
    checked = [two_way(*(with_count(side) for side in (0 * one, one)), mean).p for one in values[:20]]
    assert found[:20] == pytest.approx(checked, rel=1e-9)
    claims = int((found.reshape(families, arms).min(axis=1) < 0.05 / arms).sum())
    assert claims <= stats.binom.ppf(0.999, families, 0.05)


def with_count(values):
    return np.stack([values, np.ones_like(values)], axis=-1)


def mean(sums):
    return sums[..., 0] / sums[..., 1]


def p_values(values):
    """The test of docs/statistics.md for many comparisons of means `(comparisons, seeds, examples)`."""
    _, num_seeds, num_examples = values.shape
    by_seed = values.mean(axis=2)
    examples = values.mean(axis=1).var(axis=1, ddof=1) / num_examples
    seeds = by_seed.var(axis=1, ddof=1) / num_seeds
    each = values.var(axis=2, ddof=1).mean(axis=1) / num_examples
    both = np.maximum(0, each - examples) / (num_seeds - 1)
    total = examples + np.maximum(0, seeds - both)
    share = np.minimum(1, seeds / total)
    ratio = by_seed.mean(axis=1) / np.sqrt(total)
    chunks = range(0, len(values), 2000)
    dfs = (num_seeds - 1, num_examples - 1)
    return np.concatenate(
        [behrens_fisher.p_value(ratio[n : n + 2000], share[n : n + 2000], dfs) for n in chunks]
    )
