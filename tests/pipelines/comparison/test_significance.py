"""The two-way test against hand values, loops and scipy; its verdict words; its error rate."""

import math

import numpy as np
import pytest
import scipy.stats
from scipy.sparse import csr_array

from pipelines.comparison import significance, verdict
from pipelines.comparison.significance import cluster_sums, two_way
from pipelines.metrics.base import total
from pipelines.metrics.classification_f1 import ClassificationF1
from tests.pipelines.comparison.test_behrens_fisher import convolution

EPS = np.finfo(np.float64).eps


def mean(sums):
    """100 * sum / count, the simplest metric."""
    return 100 * sums[..., 0] / sums[..., 1]


def f1(sums):
    return 200 * sums[..., 0] / np.maximum(sums[..., 1] + sums[..., 2], 1)


def with_count(values):
    """(seeds, examples) values -> statistics (value, 1)."""
    return np.stack([values, np.ones_like(values)], axis=-1)


def entity_counts(rng, num_seeds, num_examples):
    gold = np.broadcast_to(rng.integers(0, 4, num_examples), (num_seeds, num_examples))
    right = rng.binomial(gold, 0.6)
    return np.stack([right, right + rng.poisson(0.5, right.shape), gold], axis=-1).astype(float)


def naive(baseline, arm, value, clusters):
    """The formulas of docs/statistics.md in loops, without one line in common with the module."""
    num_seeds = len(baseline)
    labels = list(dict.fromkeys(clusters))
    big = len(labels)
    d, left = [], []
    for s in range(num_seeds):
        d.append(float(value(arm[s].sum(0)) - value(baseline[s].sum(0))))
        row = []
        for label in labels:
            keep = [i for i, c in enumerate(clusters) if c != label]
            row.append(float(value(arm[s][keep].sum(0)) - value(baseline[s][keep].sum(0))))
        left.append(row)
    delta = sum(d) / num_seeds

    def jackknife(row):
        centre = sum(row) / big
        return (big - 1) / big * sum((x - centre) ** 2 for x in row)

    v_ex = jackknife([sum(row[g] for row in left) / num_seeds for g in range(big)])
    v_seed = sum((x - delta) ** 2 for x in d) / (num_seeds - 1) / num_seeds
    v_int = max(0.0, sum(jackknife(row) for row in left) / num_seeds - v_ex) / (num_seeds - 1)
    v = v_ex + max(0.0, v_seed - v_int)
    return delta, v_ex, v_seed, v_int, v


@pytest.mark.parametrize(("num_seeds", "num_examples", "cluster_len"), [(2, 11, 1), (3, 47, 3), (5, 30, 7)])
def test_the_vectorised_jackknife_equals_the_formulas_in_loops(num_seeds, num_examples, cluster_len):
    rng = np.random.default_rng(num_examples)
    baseline, arm = (entity_counts(rng, num_seeds, num_examples) for _ in range(2))
    clusters = rng.permutation([f"document {i // cluster_len}" for i in range(num_examples)]).tolist()
    delta, v_ex, v_seed, v_int, v = naive(baseline, arm, f1, clusters)
    got = two_way(baseline, arm, f1, clusters)
    tolerance = 1e4 * EPS
    assert got.difference == pytest.approx(delta, rel=tolerance)
    assert got.variance.examples == pytest.approx(v_ex, rel=tolerance)
    assert got.variance.seeds == pytest.approx(v_seed, rel=tolerance)
    assert got.variance.interaction == pytest.approx(v_int, rel=tolerance, abs=tolerance)
    assert got.se == pytest.approx(math.sqrt(v), rel=tolerance)
    assert got.num_clusters == len(set(clusters))

    def tail(distance):
        """The two-sided probability of a distance, as an integral."""
        return convolution(
            distance / math.sqrt(v), min(1, v_seed / v), (num_seeds - 1, len(set(clusters)) - 1)
        )

    half95, half90 = (got.ci95[1] - delta, got.ci90[1] - delta)
    assert (got.ci95[0], got.ci90[0]) == pytest.approx((delta - half95, delta - half90))
    assert got.p == pytest.approx(tail(abs(delta)), rel=1e-5)
    assert (tail(half95), tail(half90)) == pytest.approx((0.05, 0.10), rel=1e-5)
    assert tail(got.mde80 - half95) == pytest.approx(0.40, rel=1e-5)
    assert 2 * scipy.stats.t.sf(half95 / got.se, got.df) == pytest.approx(0.05, rel=1e-5)


def test_without_example_variance_it_is_the_paired_t_test_over_seeds():
    seeds_baseline, seeds_arm = np.array([0.50, 0.53, 0.47, 0.56]), np.array([0.52, 0.58, 0.51, 0.55])
    baseline, arm = (with_count(np.repeat(s[:, None], 9, axis=1)) for s in (seeds_baseline, seeds_arm))
    got = two_way(baseline, arm, mean)
    want = scipy.stats.ttest_rel(100 * seeds_arm, 100 * seeds_baseline)
    assert got.df == pytest.approx(3)
    assert got.p == pytest.approx(want.pvalue, rel=1e-6)
    assert got.ci95 == pytest.approx(tuple(want.confidence_interval(0.95)), rel=1e-6)


def test_one_seed_is_the_paired_t_test_over_examples():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(2, 1, 41))
    got = two_way(with_count(values[0]), with_count(values[1]), mean)
    want = scipy.stats.ttest_rel(values[1, 0], values[0, 0])
    assert got.df == pytest.approx(40)
    assert got.p == pytest.approx(want.pvalue, rel=1e-6)


def test_a_hand_computed_comparison():
    # differences per example: seed 1: 0 1 0 0, seed 2: 0 1 1 0  ->  d = 25, 50 points, mean 37.5
    baseline = np.array([[0.0, 0, 1, 1], [0, 0, 0, 1]])
    arm = np.array([[0.0, 1, 1, 1], [0, 1, 1, 1]])
    got = two_way(with_count(baseline), with_count(arm), mean)
    # the variance of a mean by the jackknife is the sample variance over N; means per example 0 1 .5 0
    v_ex = np.var([0, 100, 50, 0], ddof=1) / 4
    v_seed = np.var([25, 50], ddof=1) / 2
    per_seed = (np.var([0, 100, 0, 0], ddof=1) / 4 + np.var([0, 100, 100, 0], ddof=1) / 4) / 2
    assert got.difference == 37.5
    assert got.seed_differences == (25.0, 50.0)
    assert got.variance.examples == pytest.approx(v_ex)
    assert got.variance.seeds == pytest.approx(v_seed)
    assert got.variance.interaction == pytest.approx(per_seed - v_ex)
    assert got.variance.total == pytest.approx(v_ex + max(0, v_seed - (per_seed - v_ex)))
    assert got.num_differing == 2


def test_swapping_the_arms_changes_the_sign_and_nothing_else():
    rng = np.random.default_rng(5)
    a, b = (entity_counts(rng, 3, 37) for _ in range(2))
    one, other = two_way(a, b, f1), two_way(b, a, f1)
    assert one.difference == -other.difference
    assert (one.se, one.p) == (other.se, other.p)
    assert one.ci95 == tuple(-x for x in reversed(other.ci95))


def test_the_order_of_examples_and_the_names_of_clusters_do_not_matter():
    rng = np.random.default_rng(6)
    a, b = (entity_counts(rng, 3, 40) for _ in range(2))
    clusters = np.repeat(np.arange(13), 4)[:40]
    order = rng.permutation(40)
    one = two_way(a, b, f1, clusters.tolist())
    other = two_way(a[:, order], b[:, order], f1, [f"c{99 - c}" for c in clusters[order]])
    assert other.se == pytest.approx(one.se, rel=1e3 * EPS)
    assert other.p == pytest.approx(one.p, rel=1e3 * EPS)


def test_copying_every_example_within_its_cluster_changes_nothing():
    rng = np.random.default_rng(7)
    a, b = (entity_counts(rng, 3, 35) for _ in range(2))
    one = two_way(a, b, f1)
    five = two_way(*(np.repeat(x, 5, axis=1) for x in (a, b)), f1, np.repeat(np.arange(35), 5).tolist())
    assert five.se == pytest.approx(one.se, rel=1e3 * EPS)
    assert five.df == pytest.approx(one.df, rel=1e3 * EPS)
    assert (five.num_examples, five.num_clusters) == (175, 35)


def test_identical_statistics_are_identical_and_a_constant_difference_is_refused():
    rng = np.random.default_rng(8)
    a = with_count(rng.random((3, 20)))
    same = two_way(a, a.copy(), mean)
    assert (same.difference, same.se, same.p, same.identical, same.problem) == (0, 0, 1, True, None)
    shifted = a + np.array([0.1, 0.0])
    constant = two_way(a, shifted, mean)
    assert constant.difference == pytest.approx(10)
    assert constant.problem is not None
    assert math.isnan(constant.p)


def test_two_arms_that_score_zero_with_different_outputs_are_not_called_identical():
    baseline = np.array([[[0.0, 1, 2], [0, 0, 1], [0, 2, 2]]] * 3)
    arm = baseline + np.array([0.0, 1, 0])
    got = two_way(baseline, arm, f1)
    assert not got.identical
    assert verdict.verdict(got, 1.0, 0.5, num_planned=3).word == "no-verdict"


def test_examples_of_a_single_cluster_give_a_difference_and_no_test():
    rng = np.random.default_rng(0)
    baseline, arm = rng.random((2, 3, 4, 2))
    got = two_way(baseline, arm, mean, ["one"] * 4)
    assert got.difference == pytest.approx(two_way(baseline, arm, mean).difference)
    assert (got.num_clusters, math.isnan(got.p), math.isnan(got.se)) == (1, True, True)
    assert "more than one cluster" in got.problem
    assert verdict.verdict(got, 1.0, 0.5, num_planned=3).word == "no-verdict"


def test_bad_shapes_are_errors():
    a = np.ones((3, 4, 2))
    with pytest.raises(ValueError, match="expected two"):
        two_way(a, a[:2], mean)
    with pytest.raises(ValueError, match="expected two"):
        two_way(a[:, :0], a[:, :0], mean)
    with pytest.raises(ValueError, match="3 cluster labels for 4 examples"):
        two_way(a, a, mean, ["one"] * 3)


# ---- Holm
@pytest.mark.parametrize(
    ("raw", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # .005*4 .01*3 .03*2 max(.06, .04*1)
        ([0.5, 0.5], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([0.01, math.nan, 0.03], [0.03, 1.0, 0.06]),  # a missing test keeps its place in the family
        ([], []),
    ],
)
def test_holm_by_hand(raw, adjusted):
    assert significance.holm(raw) == pytest.approx(adjusted)


# ---- sparse statistics
@pytest.mark.parametrize("clustered", [False, True])
def test_sparse_statistics_give_the_bits_of_dense_ones(clustered):
    rng = np.random.default_rng(3)
    labels = [f"l{place}" for place in range(40)]
    metric = ClassificationF1(labels)
    golds = rng.integers(0, 40, 90)
    runs = [np.where(rng.random(90) < 0.4, rng.integers(0, 40, 90), golds) for _ in range(6)]
    tables = [metric.table([labels[p] for p in run], [labels[g] for g in golds]) for run in runs]
    dense = [np.stack([metric.statistics(labels[p], labels[g]) for p, g in zip(run, golds)]) for run in runs]
    assert all(np.array_equal(table.toarray(), other) for table, other in zip(tables, dense))
    assert np.array_equal(total(tables[0]), total(dense[0]))
    clusters = [f"c{place // 4}" for place in range(90)] if clustered else None
    ours = two_way(tables[:3], tables[3:], metric.score, clusters)
    assert ours == two_way(dense[:3], dense[3:], metric.score, clusters)
    assert ours.num_differing > 0
    groups = [[cluster_sums(one, clusters) for one in side[:2]] for side in (tables, dense)]
    sampled = [
        significance.resampled_values(dict(enumerate(side)), dict.fromkeys((0, 1), metric.score), 200)
        for side in groups
    ]
    assert all(np.array_equal(sampled[0][place], sampled[1][place]) for place in (0, 1))


# ---- bootstrap
def test_resampling_draws_clusters_with_replacement_and_the_same_for_every_column():
    groups = np.arange(1.0, 8)[:, None] * np.array([[1.0, -2.0]])
    tables = {"dense": groups, "sparse": csr_array(groups), "clusters": np.ones((7, 1))}
    values = {
        "dense": lambda sums: sums[:, 1] + 2 * sums[:, 0],
        "sparse": lambda sums: sums[:, 0],
        "clusters": lambda sums: sums[:, 0],
    }
    found = significance.resampled_values(tables, values, 333)
    assert not found["dense"].any()
    assert set(found["clusters"]) == {7}  # always seven clusters
    first = found["sparse"]
    assert abs(first.mean() - groups[:, 0].sum()) < 5 * first.std() / math.sqrt(333)
    assert np.array_equal(first, significance.resampled_values(tables, values, 333)["sparse"])
    drawn = np.concatenate(list(significance.resample(7, 333)))
    assert np.array_equal(first, (drawn @ groups)[:, 0])


def test_the_bootstrap_agrees_with_the_jackknife_and_with_scipy():
    rng = np.random.default_rng(11)
    a, b = (entity_counts(rng, 1, 150) for _ in range(2))
    groups = np.concatenate([a[0], b[0]], axis=1)
    values = significance.resampled_values({"a": a[0], "b": b[0]}, {"a": f1, "b": f1}, 4000)
    ours = significance.bootstrap(values["a"][:, None], values["b"][:, None])
    jackknife = two_way(a, b, f1)
    assert ours.se == pytest.approx(jackknife.se, rel=0.06)
    columns = tuple(groups.T)

    def difference(*parts, axis=-1):
        summed = np.stack([p.sum(axis=axis) for p in parts], axis=-1)
        return f1(summed[..., 3:]) - f1(summed[..., :3])

    theirs = scipy.stats.bootstrap(
        columns, difference, paired=True, vectorized=True, n_resamples=2000, method="percentile", rng=1
    )
    assert ours.se == pytest.approx(theirs.standard_error, rel=0.06)
    width = ours.interval95[1] - ours.interval95[0]
    assert ours.interval95 == pytest.approx(tuple(theirs.confidence_interval), abs=0.06 * width)
    assert sum(ours.counts) == ours.num_resamples == 4000
    assert len(ours.edges) == len(ours.counts) + 1


# ---- error rate
def crossed(rng, num_seeds, num_examples, seed_sd, example_sd, residual_sd):
    """Differences without a true effect: seeds, examples that lean one way, and the rest."""
    return (
        rng.normal(0, seed_sd, (num_seeds, 1))
        + rng.normal(0, example_sd, (1, num_examples))
        + rng.normal(0, residual_sd, (num_seeds, num_examples))
    )


@pytest.mark.parametrize(
    ("name", "sds"),
    [("seeds", (1.0, 1.0, 5.0)), ("balanced", (0.3, 5.0, 8.0)), ("examples", (0.02, 8.0, 8.0))],
)
def test_no_true_difference_is_called_one_in_about_one_of_twenty(name, sds):
    rng, num_simulations, rejected = np.random.default_rng(sum(map(ord, name))), 1500, 0
    for _ in range(num_simulations):
        values = crossed(rng, 5, 60, *sds)
        rejected += two_way(with_count(np.zeros_like(values)), with_count(values), mean).p < 0.05
    # 99.9 % binomial bounds around 1.5 % and 7 %: below, the test would be blind; above, a liar
    low, high = (
        scipy.stats.binom.ppf(0.001, num_simulations, 0.015),
        scipy.stats.binom.ppf(0.999, num_simulations, 0.07),
    )
    assert low <= rejected <= high, f"{name}: {100 * rejected / num_simulations:.1f} %"


def test_ignoring_clusters_would_lie_and_leaving_clusters_out_does_not():
    rng, num_simulations = np.random.default_rng(21), 800
    rejected = {"clusters": 0, "examples": 0}
    for _ in range(num_simulations):
        shared = np.repeat(rng.normal(0, 1, (1, 40)), 5, axis=1)
        values = shared + rng.normal(0, 1, (3, 200))
        a, b = with_count(np.zeros_like(values)), with_count(values)
        rejected["clusters"] += two_way(a, b, mean, np.repeat(np.arange(40), 5).tolist()).p < 0.05
        rejected["examples"] += two_way(a, b, mean).p < 0.05
    assert rejected["clusters"] <= scipy.stats.binom.ppf(0.999, num_simulations, 0.06)
    assert rejected["examples"] > 3 * rejected["clusters"]
