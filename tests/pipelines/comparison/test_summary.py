"""The summary over cells: by hand, by its error rate, and where it says nothing."""

import numpy as np
import pytest
from scipy import optimize, stats

from pipelines import report
from pipelines.comparison import compare
from pipelines.comparison.summary import summarise
from pipelines.report import data, sentences
from pipelines.report import over_cells as over_cells_words
from tests.pipelines.comparison.test_compare import Folders, ablation, counts


def test_equal_errors_give_the_t_interval_over_cells():
    values = [0.5, 1.5, -0.3, 2.0, 0.9]
    found = summarise("gate", values, [0.1] * 5)
    want = stats.ttest_1samp(values, 0)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.interval == pytest.approx(tuple(want.confidence_interval(0.95)))
    assert found.p == pytest.approx(want.pvalue)
    assert found.spread**2 == pytest.approx(np.var(values, ddof=1) - 0.01)  # equal errors: by moments
    half = stats.t.ppf(0.975, 3) * np.sqrt(found.spread**2 + np.var(values, ddof=1) / 5)
    assert found.prediction == pytest.approx((found.mean - half, found.mean + half))
    assert found.heterogeneity == pytest.approx(found.spread**2 / (found.spread**2 + 0.01))


def test_cells_that_agree_have_no_spread_and_an_interval_no_narrower_than_their_errors():
    found = summarise("gate", [1.0, 1.0, 1.0], [0.5, 0.5, 1.0])
    assert (found.spread, found.heterogeneity) == (0, 0)
    error = 1 / np.sqrt(4 + 4 + 1)
    assert found.interval[1] - found.mean == pytest.approx(stats.t.ppf(0.975, 2) * error)


def test_the_spread_makes_the_scatter_what_chance_gives():
    values, errors = np.array([0.2, 3.0, -1.0, 0.7]), np.array([0.2, 0.6, 0.3, 1.1])
    found = summarise("gate", values, errors)
    weights = 1 / (errors**2 + found.spread**2)
    mean = (weights * values).sum() / weights.sum()
    assert (weights * (values - mean) ** 2).sum() == pytest.approx(3)
    assert found.mean == pytest.approx(mean)


def test_two_cells_or_a_cell_without_an_error_have_no_summary():
    assert summarise("gate", [1.0, 2.0], [0.1, 0.1]) is None
    assert summarise("gate", [1.0, 2.0, 3.0], [0.1, 0.0, 0.1]) is None


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_intervals_hold_the_mean_and_predictions_a_new_cell(spread):
    rng, held, ahead, trials = np.random.default_rng(3), 0, 0, 1500
    for _ in range(trials):
        errors = rng.uniform(0.3, 1.5, 6)
        found = summarise("gate", rng.normal(0, np.hypot(spread, errors)), errors)
        held += found.interval[0] <= 0 <= found.interval[1]
        ahead += found.prediction[0] <= rng.normal(0, spread) <= found.prediction[1]
    assert held >= stats.binom.ppf(0.001, trials, 0.94)
    assert ahead >= stats.binom.ppf(0.001, trials, 0.88)  # few cells show their spread badly


# Vaccination against tuberculosis, 13 trials (Colditz et al. 1994): cases and others, vaccinated and not.
TRIALS = """
4 119 11 128; 6 300 29 274; 3 228 11 209; 62 13536 248 12619; 33 5036 47 5761; 180 1361 372 1079;
8 2537 10 619; 505 87886 499 87892; 29 7470 45 7232; 17 1699 65 1600; 186 50448 141 27197;
5 2493 3 2338; 27 16886 29 17825
"""


def risk_ratios():
    a, b, c, d = np.array([line.split() for line in TRIALS.split(";")], float).T
    return np.log(a / (a + b) / (c / (c + d))), np.sqrt(1 / a - 1 / (a + b) + 1 / c - 1 / (c + d))


def test_the_trials_of_a_textbook_have_their_published_mean_and_spread():
    # The documentation of metafor (Viechtbauer 2010): -0.715, and by Paule and Mandel a variance of 0.318.
    found = summarise("bcg", *risk_ratios())
    assert found.mean == pytest.approx(-0.715, abs=0.001)
    assert found.spread**2 == pytest.approx(0.318, abs=0.001)
    assert found.interval == pytest.approx((-1.108, -0.321), abs=0.002)  # metafor, Knapp and Hartung: by REML


GROUPS = ["a", "b", "a", "b", "c", "c", "a", "b", "a", "c", "b", "a", "c"]


def regressed(values, errors, groups):
    """Knapp's and Hartung's regression on group names, by matrices: coefficients, covariance, spread, p."""
    names = list(dict.fromkeys(groups))
    design = np.array([[group == name for name in names] for group in groups], float)
    free = len(values) - len(names)

    def fit(spread):
        weights = np.diag(1 / (errors**2 + spread))
        inverse = np.linalg.inv(design.T @ weights @ design)
        means = inverse @ design.T @ weights @ values
        rest = values - design @ means
        return means, inverse, rest @ weights @ rest

    spread = 0.0
    if fit(0.0)[2] > free:
        spread = optimize.brentq(lambda spread: fit(spread)[2] - free, 0, 100)
    means, inverse, scatter = fit(spread)
    covariance = max(1.0, scatter / free) * inverse
    contrasts = np.eye(len(names))[1:] - np.eye(len(names))[0]
    away = contrasts @ means
    f = away @ np.linalg.inv(contrasts @ covariance @ contrasts.T) @ away / (len(names) - 1)
    return means, np.sqrt(np.diag(covariance)), spread, stats.f.sf(f, len(names) - 1, free)


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_groups_are_a_regression_on_their_names(shift):
    values, errors = risk_ratios()
    values = values + shift * np.array([group == "b" for group in GROUPS])
    found = summarise("bcg", values, errors, GROUPS, "task")
    means, spreads, spread, p = regressed(values, errors, GROUPS)
    assert [group.name for group in found.groups] == ["a", "b", "c"]
    assert [group.cells for group in found.groups] == [5, 4, 4]
    assert [group.mean for group in found.groups] == pytest.approx(means)
    half, ahead = stats.t.ppf(0.975, 10) * spreads, stats.t.ppf(0.975, 9) * np.sqrt(spread + spreads**2)
    ends = [(group.interval[1], group.prediction[1]) for group in found.groups]
    assert [end for end, _ in ends] == pytest.approx(means + half)
    assert [end for _, end in ends] == pytest.approx(means + ahead)
    assert found.spread_within == pytest.approx(np.sqrt(spread), rel=1e-6)
    assert found.p_groups == pytest.approx(p, rel=1e-6)
    assert (found.p_groups < 0.001) == (shift > 0)
    assert (found.mean, found.interval) == (
        summarise("bcg", values, errors).mean,
        summarise("bcg", values, errors).interval,
    )


@pytest.mark.parametrize("groups", [["a", "b", "c", "d"], ["a"] * 4, ["a", "a", "b", "c"]])
def test_too_few_cells_for_their_groups_have_no_comparison(groups):
    found = summarise("gate", [1.0, 2.0, 0.5, 0.7], [0.2] * 4, groups, "family")
    assert (found.by, found.groups, found.p_groups) == ("family", (), None)


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_groups_without_a_difference_are_told_apart_in_at_most_one_of_twenty(spread):
    rng, false, trials = np.random.default_rng(4), 0, 600
    for _ in range(trials):
        errors = rng.uniform(0.3, 1.5, 9)
        found = summarise(
            "gate", rng.normal(0, np.hypot(spread, errors)), errors, ["a", "b", "c"] * 3, "task"
        )
        false += found.p_groups < 0.05
    assert false <= stats.binom.ppf(0.999, trials, 0.06)


CELLS = {
    "ner-bert": "encoder",
    "ner-small": "encoder",
    "ner-gpt2": "decoder",
    "lm-gpt2": "decoder",
    "t5": "encoder",
}


def over_cells(root, by):
    """Results of five cells in two families, in which the arm gains in one family only."""
    folders, runs = Folders(root), {}
    for number, (cell, family) in enumerate(CELLS.items()):
        for seed in (1, 2, 3):
            base = counts(seed + 10 * number, 100)
            up = base.copy()
            changed = np.random.default_rng([seed, number]).random(100) < (
                0.6 if family == "decoder" else 0.1
            )
            up[:, 0] = np.minimum(up[:, 2], up[:, 0] + changed)
            up[:, 1] = np.maximum(up[:, 0], up[:, 1])
            for arm, table in (("stock", base), ("gate", up)):
                runs[cell, arm, seed] = folders.add(arm, seed, table, cell=cell)
                (runs[cell, arm, seed] / "predictions.test.jsonl").unlink()  # no texts are shown
    plan = ablation(cells=tuple(CELLS)) | {"by": by}
    for cell, family in CELLS.items():
        task = "language_modelling" if cell.startswith("lm") else "ner"
        plan["cells"][cell] = {"task": {"name": task}, "model": {"name": "/m/bert", "family": family}}
    plan["primary"] = {"ner": "f1", "language_modelling": "f1"}
    return compare.build(plan, runs, folder=root)


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("family", ["encoder", "decoder"]),
        ("task", ["ner", "language_modelling"]),
        ("size", []),  # one size
    ],
)
def test_cells_are_grouped_by_what_the_ablation_declares(tmp_path, by, names):
    [found] = over_cells(tmp_path, by)["summaries"]
    assert found["by"] == by
    assert [group["name"] for group in found.get("groups", [])] == names


def test_every_format_has_the_groups(tmp_path):
    results = over_cells(tmp_path, "family")
    texts = report.render(results, tmp_path)
    facts = data.load(results, tmp_path)
    told = over_cells_words.sentence(facts, "gate")
    assert " By family: encoder " in told
    assert "in 3 cells and decoder " in told
    assert "one mean for all groups: p " in told
    [summary] = facts.results.summaries
    encoder, decoder = summary.groups
    assert decoder.mean > encoder.mean
    for group in summary.groups:
        numbers = f"| gate | {group.name} ({group.cells}) | {group.mean:+.2f}".replace("-", "−")
        assert numbers in texts["report.md"]
    assert "Means over cells, in margins" in texts["report.html"]
    assert "decoder (2 cells)" in texts["report.html"]
    assert "By family: encoder" in texts["report.tex"]


def test_results_and_report_have_one_answer_over_the_cells(tmp_path):
    folders, cells = Folders(tmp_path), ("ner-bert", "ner-gpt2", "ner-t5")
    for number, cell in enumerate(cells):
        for seed in (1, 2, 3):
            for arm in ("stock", "gate"):
                folders.add(arm, seed + 10 * number, cell=cell)
    runs = {(cell, arm, seed % 10): path for (cell, arm, seed), path in folders.runs.items()}
    results = compare.build(ablation(cells=cells), runs, folder=tmp_path)
    rows = results["comparisons"]
    want = summarise("gate", [row["difference"] / 0.5 for row in rows], [row["se"] / 0.5 for row in rows])
    [found] = results["summaries"]
    assert (found["mean"], found["interval"]) == (want.mean, list(want.interval))
    assert "Over 3 cells, in margins" in sentences.arm(data.load(results, tmp_path), "gate")
