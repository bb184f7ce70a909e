"""The word of a verdict and the flags beside it, from comparisons by hand."""

import math

import numpy as np
import pytest

from pipelines.comparison import significance, verdict
from pipelines.comparison.significance import TwoWay, Variance, two_way
from tests.pipelines.comparison.test_significance import entity_counts, f1, mean, with_count


# ---- flags
def test_flags_name_few_clusters_few_differences_and_an_outlying_seed():
    rng = np.random.default_rng(12)
    a = with_count(rng.random((5, 25)))
    b = a.copy()
    b[:, :3, 0] += rng.random((5, 3)) * 0.01
    b[4, :3, 0] += 3
    found = " ".join(verdict.flags(two_way(a, b, mean), seeds=[1, 2, 3, 4, 99]))
    assert "25 clusters" in found
    assert "3 examples differ" in found
    assert "seed 99 stands out" in found


def test_no_flag_on_a_healthy_comparison_and_one_when_the_standard_errors_part():
    rng = np.random.default_rng(13)
    a, b = (entity_counts(rng, 4, 300) for _ in range(2))
    result = two_way(a, b, f1)
    good = significance.Bootstrap(math.sqrt(result.variance.examples) * 1.05, (0, 1), (1,), (0, 1), 100)
    assert [f for f in verdict.flags(result, good) if "stands out" not in f] == []
    bad = significance.Bootstrap(math.sqrt(result.variance.examples) * 1.2, (0, 1), (1,), (0, 1), 100)
    assert any("bootstrap" in flag for flag in verdict.flags(result, bad))


# ---- verdicts
def comparison(difference, se, *, seeds=5, differing=50, problem=None):
    """A comparison with normal quantiles, so that limits are easy to read."""
    return TwoWay(
        difference=difference,
        se=se,
        df=1e9,
        p=0.0,
        ci95=(difference - 1.96 * se, difference + 1.96 * se),
        ci90=(difference - 1.645 * se, difference + 1.645 * se),
        mde80=2.8 * se,
        seed_differences=(difference,) * seeds,
        variance=Variance(0, se**2, 0, se**2),
        num_seeds=seeds,
        num_examples=100,
        num_clusters=100,
        num_differing=differing,
        problem=problem,
    )


@pytest.mark.parametrize(
    ("result", "p", "margin", "options", "word", "within"),
    [
        (comparison(2, 0.5), 0.01, 0.5, {"diverged": ["gate seed 2"], "missing": ["x"]}, "unstable", False),
        (comparison(2, 0.5), 0.01, 0.5, {"missing": ["gate seed 3"]}, "no-verdict", False),
        (None, 0.01, 0.5, {}, "no-verdict", False),
        (comparison(2, 0.5, seeds=2), 0.01, 0.5, {}, "no-verdict", False),
        (comparison(0, 0, seeds=2, differing=0), 1.0, 0.5, {}, "no-verdict", False),
        (comparison(2, math.nan, problem="constant"), math.nan, 0.5, {}, "no-verdict", False),
        (comparison(0, 0, differing=0), 1.0, 0.5, {}, "identical", True),
        (comparison(2, 0.5), 0.01, 0.5, {}, "better", False),
        (comparison(-2, 0.5), 0.01, 0.5, {}, "worse", False),
        (comparison(0.2, 0.05), 0.01, 0.5, {}, "better", True),
        (comparison(-0.2, 0.05), 0.01, 0.5, {}, "worse", True),
        (
            comparison(2, 0.5),
            0.06,
            0.5,
            {},
            "non-inferior",
            False,
        ),  # Holm took the p, the interval stays good
        (comparison(0.2, 0.05), 0.06, 0.5, {}, "equivalent", True),
        (comparison(0.1, 0.2), 0.9, 0.5, {}, "equivalent", True),
        (comparison(0.3, 0.2), 0.9, 0.5, {}, "non-inferior", False),
        (comparison(-0.3, 0.2), 0.9, 0.5, {}, "inconclusive", False),
        (comparison(0.1, 0.2), 0.9, None, {}, "inconclusive", False),
        (comparison(1, 0.6), 0.01, 0.5, {}, "non-inferior", False),  # p small, interval holds 0: no claim
    ],
)
def test_the_first_word_that_holds_wins(result, p, margin, options, word, within):
    got = verdict.verdict(result, p, margin, num_planned=5, **options)
    assert (got.word, got.within_margin) == (word, within)
    assert got.reason


def test_unstable_counts_the_diverged_runs():
    got = verdict.verdict(
        comparison(2, 0.5), 0.01, 0.5, num_planned=5, diverged=["gate seed 2", "gate seed 4"]
    )
    assert "2 of 5" in got.reason
    assert "gate seed 4" in got.reason
