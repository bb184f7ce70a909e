"""What a verdict may claim: families of margins, collapse, skew, few clusters, assays, selection."""

import itertools
import json
import math

import numpy as np
import pytest
from scipy import stats

from pipelines.comparison import compare, margin, verdict
from pipelines.comparison.collapse import collapse, unseen
from pipelines.comparison.doubts import Doubts, doubts
from pipelines.comparison.shrinkage import shrunken
from pipelines.comparison.significance import two_way
from pipelines.report import data, settling
from scripts.simulations import claims
from tests.pipelines.comparison.test_behrens_fisher import convolution, mean, with_count
from tests.pipelines.comparison.test_compare import Folders, ablation, counts, hash_of
from tests.pipelines.comparison.test_verdict import comparison


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path)


def compared(values):
    return two_way(with_count(0 * values), with_count(values), mean)


# ---- the margin
def test_the_sides_of_a_margin_are_one_sided_tails():
    rng = np.random.default_rng(4)
    result = compared(rng.normal(0.3, 1, (4, 1)) + rng.normal(0, 6, (4, 50)))
    worse, better = margin.one_sided(result, 1.5)
    share = min(1, result.variance.seeds / result.variance.total)
    for p, distance in ((worse, 1.5 + result.difference), (better, 1.5 - result.difference)):
        tail = convolution(abs(distance) / result.se, share, (3, 49)) / 2
        assert p == pytest.approx(tail if distance > 0 else 1 - tail, rel=1e-5)
    assert (worse < 0.05) == (result.ci90[0] > -1.5)
    assert (better < 0.05) == (result.ci90[1] < 1.5)


def test_the_family_of_a_margin_by_hand():
    # sorted: .001 x 2, .01 x 2 (the first has a side left), .02 x 2 -> its comparison is done, .03 x 1
    assert margin.adjusted([(0.001, 0.02), (0.03, 0.01)]) == [(0.002, 0.04), (0.04, 0.02)]
    assert margin.adjusted([(0.01, 0.02), None]) == [(0.02, 0.04), None]  # it keeps its place
    assert margin.adjusted([(0.01, 0.02)]) == [(0.01, 0.02)]
    assert margin.adjusted([]) == []


@pytest.mark.parametrize(("arms", "mixed"), [*itertools.product([1, 8, 24], [False, True])])
def test_a_family_at_exactly_the_margin_has_a_false_claim_in_at_most_one_of_twenty(arms, mixed):
    rng, families = np.random.default_rng(arms), 2000
    above = np.arange(arms) % 2 == (1 if mixed else 2)
    z = rng.standard_normal((families, arms))
    worse, better = stats.norm.sf(z + 9 * above), stats.norm.sf(9 * ~above - z)
    false = 0
    for pairs in zip(worse.tolist(), better.tolist()):
        sides = np.array(margin.adjusted(list(zip(*pairs)))) < 0.05
        false += bool(np.where(above, sides.all(axis=1), sides[:, 0]).any())
    assert false <= stats.binom.ppf(0.999, families, 0.05)


def test_an_interval_inside_the_margin_is_no_claim_where_its_family_is_not():
    inside = comparison(0.1, 0.2)
    words = [
        verdict.verdict(inside, 0.9, 0.5, num_planned=5, p_margin=sides).word
        for sides in ((0.01, 0.04), (0.04, 0.06), (0.06, 0.01))
    ]
    assert words == ["equivalent", "non-inferior", "inconclusive"]


# ---- collapse
def test_the_rate_of_collapse_is_bounded_by_clopper_and_pearson():
    none = collapse([1.0, 1.1, 0.9, 1.05, 0.95])
    assert (none.seeds, none.of, none.fall) == (0, 5, None)
    assert none.rate == pytest.approx(1 - 0.05**0.2)
    assert none.sentence == "0 of 5 seeds collapsed: up to 45 % may"
    one = collapse([1.0, 1.1, 0.9, 1.05, 0.95, 1.0, -8.0])
    assert one.rate == pytest.approx(stats.beta.ppf(0.95, 2, 6))
    assert one.fall == pytest.approx(9.0)
    assert one.overturns == pytest.approx(1 / 9)
    assert one.overturned
    assert collapse([1.0, 1.1, 0.9, 1.05, 8.0]).seeds == 0  # one that stands out above is no collapse


SEEN = [2.0, 2.1, 1.9, 2.05, 1.95, -18.0]
STEADY = [2.0, 2.1, 1.9, 2.05, 1.95]


@pytest.mark.parametrize(("difference", "word"), [(2, "better"), (-2, "worse")])
def test_falls_that_were_seen_withhold_a_difference_of_either_side(difference, word):
    result = comparison(difference, 0.5)
    said = lambda known: verdict.verdict(result, 0.01, None, num_planned=5, doubts=known)
    known = said(doubts(result, collapse(SEEN), unseen(2, 1)))
    assert known.word == "inconclusive"
    assert known.reason.startswith(f"it would be called {word}, but 1 of 6 seeds collapsed")
    assert said(doubts(result, collapse(STEADY), unseen(2, 1))).word == word


@pytest.mark.parametrize(("difference", "word"), [(2, "better"), (-2, "worse")])
def test_falls_that_none_showed_make_a_difference_usual_until_enough_seeds_exclude_them(difference, word):
    def said(fall, num_seeds=5):
        result = comparison(difference, 0.5, seeds=num_seeds)
        known = doubts(result, collapse(STEADY), unseen(abs(difference), fall))
        return verdict.verdict(result, 0.01, None, num_planned=5, doubts=known)

    usual = said(20)
    assert usual.word == f"usually {word}"
    assert "5 seeds without a fall leave a rate of 45 % possible" in usual.reason
    assert "falls of 20 undo the lead at 10 % (29 seeds would exclude that)" in usual.reason
    assert 1 - 0.05 ** (1 / 29) < 0.1 < 1 - 0.05 ** (1 / 28)
    assert [said(20, num_seeds).word for num_seeds in (28, 29)] == [f"usually {word}", word]
    assert said(3).word == word  # two thirds of the seeds would have to fall
    assert said(1).word == word  # a fall to what needs no model leaves it ahead
    assert said(None).word == f"usually {word}"
    assert "how far one would fall is not known" in said(None).reason


def falling(folders, num_seeds, gain, floor, **baselines):
    """An arm with some more right entities than the baseline, and what needs no model far below both."""
    record = {"split": "test", "num_examples": 60, "scores": {"every tag O": {"f1": floor}} | baselines}
    for seed in range(1, num_seeds + 1):
        base = counts(seed, 200, skill=0.5)
        up = base.copy()
        rows = np.arange(200) % 10 < gain
        up[rows, 0] = np.minimum(up[rows, 2], up[rows, 0] + 1)
        up[:, 1] = np.maximum(up[:, 0], up[:, 1])
        for arm, stats_of in (("stock", base), ("gate", up)):
            folders.add(arm, seed, stats_of, baselines=record)
    return folders.runs


def test_a_seed_may_fall_to_the_weakest_score_without_a_model_unless_another_fall_is_declared(folders):
    plan = ablation(seeds=range(1, 5))
    [row] = compare.build(plan, falling(folders, 4, 4, 0.0, words={"f1": 30.0}))["comparisons"]
    mean = np.mean(row["arm_scores"])
    assert row["verdict"] == "usually better"
    assert row["unseen"]["fall"] == pytest.approx(mean)  # to 0, the weakest
    assert row["unseen"]["overturns"] == pytest.approx(row["difference"] / mean)
    assert row["shrunken"] > 0
    assert "usual seeds" in row["reason"]
    facts = data.load(compare.build(plan, folders.runs, folder=folders.root), folders.root)
    [shown] = facts.primary
    rate, needed = 100 * row["unseen"]["overturns"], row["unseen"]["needed"]
    assert settling.note(facts, shown) == (
        f"it holds if fewer than {rate:.2g} % of the seeds of {shown.arm} collapse (lose {mean:.3g} points); "
        f"{needed} seeds of which none does would show that"
    )
    [declared] = compare.build(plan | {"collapse": {"f1": 9.0}}, folders.runs)["comparisons"]
    assert (declared["verdict"], declared["unseen"]["fall"]) == ("better", 9.0)
    swapped = plan | {"baseline": "gate"}
    [row] = compare.build(swapped, folders.runs)["comparisons"]
    assert row["verdict"] == "usually worse"  # its baseline may collapse
    assert row["unseen"]["fall"] == pytest.approx(mean)


def test_runs_whose_fall_is_unknown_are_usually_better_only(folders):
    for seed in (1, 2, 3):
        base = counts(seed, 200, skill=0.5)
        up = base.copy()
        up[:, 0] = np.minimum(up[:, 2], up[:, 0] + (np.arange(200) % 2))
        folders.add("stock", seed, base)
        folders.add("gate", seed, np.maximum(up, [0, 1, 0] * up[:, :1]))
    [row] = compare.build(ablation(), folders.runs)["comparisons"]
    assert row["verdict"] == "usually better"
    assert row["unseen"] == {}


def test_an_arm_that_collapses_sometimes_is_called_better_in_at_most_seven_of_a_hundred():
    for num_seeds in (3, 5, 10, 29):
        rng = np.random.default_rng(num_seeds)
        found = 0
        for _ in range(200):
            fallen = rng.random((num_seeds, 1)) < 0.1
            values = rng.normal(1, 0.2, (num_seeds, 1)) - 10 * fallen + rng.normal(0, 2, (num_seeds, 60))
            result = compared(values + rng.normal(0, 2, (1, 60)))
            found += claims.judged(result, 10.0) == "better"
        assert found <= stats.binom.ppf(0.999, 200, 0.07)


# ---- skew and few clusters
def test_a_few_examples_that_lose_much_withhold_better_and_a_few_that_gain_much_worse():
    rng = np.random.default_rng(3)
    effects = np.where(np.arange(300) < 2, -40.0, 1.0) + rng.normal(0, 0.3, 300)
    losing = compared(effects + rng.normal(0, 0.1, (4, 300)))
    gaining = compared(-effects + rng.normal(0, 0.1, (4, 300)))
    assert losing.skewness == pytest.approx(stats.skew(effects), rel=0.02)
    assert 25 * losing.skewness**2 > 300
    known = lambda result: doubts(result, collapse(result.seed_differences), unseen(1, 0.5))
    assert "few examples" in known(losing).better
    assert not known(losing).worse
    assert "few examples" in known(gaining).worse
    assert any("few examples" in flag for flag in verdict.flags(gaining))
    even = compared(rng.normal(1, 1, (4, 300)))
    assert known(even) == Doubts()


def test_nine_clusters_claim_nothing():
    rng = np.random.default_rng(5)
    values = 5 + rng.normal(0, 0.1, (3, 9))
    assert verdict.verdict(compared(values), 0.001, 1.0, num_planned=3).word == "no-verdict"
    values = 5 + rng.normal(0, 0.1, (3, 10))
    assert verdict.verdict(compared(values), 0.001, 1.0, num_planned=3).word == "better"


# ---- runs that learned nothing, and assays
NOTHING = {"split": "test", "num_examples": 60, "scores": {"every tag O": {"f1": 99.0}}}


def close(folders, arms=("stock", "gate"), seeds=(1, 2, 3, 4), **changes):
    """Arms whose counts differ a little, with a harmed one."""
    for seed in seeds:
        base = counts(seed, 200)
        for arm in arms:
            stats_of, rng = base.copy(), np.random.default_rng(hash_of(arm, seed))
            rows = rng.choice(200, 12, replace=False)
            stats_of[rows, 0] = rng.integers(0, base[rows, 2] + 1)
            if arm == "assay":
                stats_of[:, 0] = np.floor(base[:, 0] * 0.7)
            stats_of[:, 1] = np.maximum(stats_of[:, 0], base[:, 1])
            folders.add(arm, seed, stats_of, **changes)
    return folders.runs


def test_arms_that_learned_nothing_are_not_equivalent(folders):
    plan = ablation(seeds=(1, 2, 3, 4), margin={"f1": 8.0})
    [row] = compare.build(plan, close(folders))["comparisons"]
    assert row["verdict"] == "equivalent"
    for folder in folders.runs.values():
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(manifest | {"baselines": NOTHING}))
    [row] = compare.build(plan, folders.runs)["comparisons"]
    assert row["verdict"] == "insensitive"
    assert "did not learn" in row["reason"]


def test_equivalence_needs_the_planted_harm_to_be_found(folders):
    arms = ("stock", "gate", "assay")
    plan = ablation(arms=arms, seeds=(1, 2, 3, 4), margin={"f1": 8.0}) | {"assay": "assay"}
    gate, planted = compare.build(plan, close(folders, arms))["comparisons"]
    assert (gate["verdict"], planted["verdict"]) == ("equivalent", "usually worse")
    assert (gate["primary"], planted["primary"], planted["planted"]) == (True, False, True)
    assert gate["p_holm"] == gate["p"]  # the planted arm is not in the family
    blind = {key: path for key, path in folders.runs.items() if key[1] != "assay"}
    for seed in (1, 2, 3, 4):
        harmless = counts(seed, 200) + np.array([0, seed % 2, 0])
        blind["ner-bert", "assay", seed] = folders.add("gate", seed + 10, harmless, cell="other")
    gate, _ = compare.build(plan, blind)["comparisons"]
    assert gate["verdict"] == "insensitive"
    assert "the planted harm of the assay was not found" in gate["reason"]


# ---- selection on the split that is judged
def test_checkpoints_chosen_on_the_judged_split_are_never_better(folders):
    def built(split, best):
        made = Folders(folders.root / f"{split}{best}")
        for seed in (1, 2, 3):
            base = counts(seed, 200)
            up = base.copy()
            up[:, 0] = np.minimum(up[:, 2], up[:, 0] + (np.arange(200) % 2))
            made.add("stock", seed, base, split=split, best_step=best)
            made.add("gate", seed, np.maximum(up, [0, 1, 0] * up[:, :1]), split=split, best_step=best)
        [row] = compare.build(ablation() | {"collapse": {"f1": 1.0}}, made.runs)["comparisons"]
        return row

    assert built("test", 30)["verdict"] == "better"
    assert built("validation", 40)["verdict"] == "better"  # the last checkpoint: nothing was chosen
    chosen = built("validation", 30)
    assert chosen["verdict"] == "inconclusive"
    assert "6 of 6 runs kept the checkpoint that was best on the split that is judged" in chosen["reason"]
    assert any("judged" in flag for flag in chosen["flags"])


# ---- the winner's curse
@pytest.mark.parametrize("truth", [1.0, 2.0, 2.8, 4.0])
def test_found_differences_are_too_large_and_shrunken_ones_near_the_truth(truth):
    rng = np.random.default_rng(2)
    drawn = rng.normal(truth, 1, 4000)
    found = drawn[drawn > 1.96][:400]
    small = [shrunken(value, 1.0, 1.96) for value in found]
    excess, left = np.mean(found) - truth, np.mean(small) - truth
    assert excess > 0
    assert abs(left) < (0.62 * excess if truth < 2.5 else 0.35)
    assert all(0 <= a <= b for a, b in zip(small, found))
    assert shrunken(-3.0, 1.0, 1.96) == -shrunken(3.0, 1.0, 1.96)
    assert shrunken(30.0, 1.0, 1.96) == pytest.approx(30, abs=0.02)


def test_a_claim_has_its_shrunken_estimate_and_others_have_none(folders):
    rows = compare.build(ablation(), folders.grid())["comparisons"]
    assert all("shrunken" not in row or abs(row["shrunken"]) <= abs(row["difference"]) for row in rows)
    assert math.isfinite(rows[0]["difference"])
