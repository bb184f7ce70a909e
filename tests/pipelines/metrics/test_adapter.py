"""Every metric is an evaluate.Metric, offline, and a run's score is checked against its statistics."""

import pickle

import numpy as np
import pytest
from scipy.sparse import issparse

from pipelines.metrics.adapter import reported_score
from pipelines.metrics.load import load
from pipelines.registry import catalog

evaluate = pytest.importorskip("evaluate")

from pipelines.metrics.adapter import LibraryMetric  # noqa: E402

CASES = {  # module -> options, predictions, references
    "accuracy": ({}, ["a", "b", "c"], ["a", "b", "d"]),
    "bleu": ({}, ["the cat sat on the mat", "a dog \ud83d", "x"], ["the cat sat on a mat", "a dog", "y"]),
    "chrf": ({"word_order": 2}, ["the cat", "dog", "x"], ["a cat", "dogs", "y"]),
    "classification_f1": ({"labels": ["x", "y", "z"]}, ["x", "y", "x"], ["x", "y", "y"]),
    "entity_f1": ({}, [["B-X", "O"], ["I-X"], []], [["B-X", "B-X"], ["I-X"], []]),
    "exact_match": ({}, [["x"], ["x", "y"], []], [["x"], ["y"], []]),
    "mean_score": ({"name": "grade"}, [0.25, 1 / 3, 7.0], [None] * 3),
    "mse": ({}, [np.array([0.1, 0.2]), [0.3], [[1 / 3]]], [[0.5, 0.25], [1e-9], np.array([[7.7]])]),
    "pearson": ({}, [0.1, 1.5, 1e3], [0.3, 1.0, 7.0]),
    "perplexity": ({}, [{"nll": n / 3, "num_tokens": n} for n in (5, 7, 11)], [None] * 3),
    "rouge": ({"measure": "rouge2"}, ["a b c", "d e", ""], ["a b d", "d e", "f"]),
    "spearman": ({}, [0.1, 2.0, 2.0], [0.3, 1.0, 0.5]),
    "squad": ({"version": "2.0"}, ["cat", "", "the dog"], [["cat"], [], ["a big dog"]]),
}


def rows(metric, predictions, references):
    table = metric.table(predictions, references)
    return table.toarray() if issparse(table) else table


def test_every_metric_file_has_a_case_here():
    assert set(CASES) == set(catalog.names(catalog.METRIC))


@pytest.mark.parametrize("module", sorted(CASES))
def test_the_reported_score_is_the_score_of_the_statistics(module):
    options, predictions, references = CASES[module]
    metric = load(module, options)
    statistics = rows(metric, predictions, references)
    score = reported_score(metric, predictions, references, statistics)
    assert type(score) is float
    assert score == pytest.approx(float(metric.score(statistics.sum(axis=0))), rel=1e-12)


@pytest.mark.parametrize("module", sorted(CASES))
def test_statistics_that_do_not_belong_to_the_predictions_are_refused(module):
    options, predictions, references = CASES[module]
    metric = load(module, options)
    statistics = rows(metric, predictions, references)
    statistics[0, -1] += 1
    with pytest.raises(ArithmeticError, match=metric.name):
        reported_score(metric, predictions, references, statistics)


@pytest.mark.parametrize("module", sorted(CASES))
def test_adding_one_by_one_or_in_batches_is_the_same_and_state_is_dropped_between(module):
    options, predictions, references = CASES[module]
    metric = load(module, options)
    whole = LibraryMetric(metric).compute(predictions=predictions, references=references)
    adapter = LibraryMetric(metric)
    adapter.add_batch(predictions=predictions[:2], references=references[:2])
    adapter.add(prediction=predictions[2], reference=references[2])
    assert adapter.compute() == whole
    assert adapter.compute(predictions=predictions, references=references) == whole


def test_metrics_combine_and_travel_to_other_processes():
    accuracy, f1 = LibraryMetric(load("accuracy")), LibraryMetric(load("entity_f1"))
    tags = [["B-X", "O"], ["O"]]
    both = evaluate.combine([accuracy, f1]).compute(predictions=tags, references=tags)
    assert both == {"accuracy": 100.0, "f1": 100.0}
    again = pickle.loads(pickle.dumps(LibraryMetric(load("entity_f1", {"strict": True}))))
    assert again.compute(predictions=tags, references=tags) == {"f1_strict": 100.0}


def test_scoring_leaves_numpys_random_state_alone():
    options, predictions, references = CASES["bleu"]
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    LibraryMetric(load("bleu", options)).compute(predictions=predictions, references=references)
    assert np.array_equal(before, np.random.get_state()[1])
