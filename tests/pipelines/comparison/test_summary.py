"""The summary over cells: by hand, by its error rate, and where it says nothing."""

import numpy as np
import pytest
from scipy import stats

from pipelines.comparison import compare
from pipelines.comparison.summary import summarise
from pipelines.report import data, sentences
from tests.pipelines.comparison.test_compare import Folders, ablation


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
