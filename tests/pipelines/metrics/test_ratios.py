"""Accuracy, mean squared error and perplexity: hand values; ratios of sums, never means of ratios."""

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from pipelines.errors import UserError
from pipelines.metrics.base import total
from pipelines.metrics.load import load


def both(metric, predictions, references):
    """The score by both ways, which must be one."""
    summed = total([metric.statistics(p, r) for p, r in zip(predictions, references, strict=True)])
    by_sum, by_library = float(metric.score(summed)), metric.library_score(predictions, references)
    assert by_sum == pytest.approx(by_library, rel=1e-12)
    assert type(by_library) is float
    return by_library


def test_accuracy_is_scikit_learns():
    predictions, references = [0, 1, 1, 2, 1, 0], [0, 1, 2, 0, 1, 2]
    assert (
        both(load("accuracy"), predictions, references) == 50 == 100 * accuracy_score(references, predictions)
    )


def test_accuracy_of_sequences_counts_places_not_sequences():
    assert both(load("accuracy"), [["N", "V"], ["N"]], [["N", "N"], ["N"]]) == pytest.approx(200 / 3)
    with pytest.raises(ValueError, match="1 predicted answers for 2"):
        load("accuracy").statistics(["N"], ["N", "V"])


def test_mse_is_the_mean_over_numbers_and_is_compared_by_ratio():
    metric = load("mse")
    assert both(metric, [[1.0, 2.0], [3.0]], [[0.0, 2.0], [1.0]]) == pytest.approx(5 / 3)
    assert (metric.scale, metric.higher_is_better) == ("log", False)
    with pytest.raises(ValueError, match="shape"):
        metric.statistics([1.0, 2.0], [1.0])


def test_perplexity_is_not_the_mean_of_perplexities():
    texts = [
        {"nll": 2 * math.log(8), "num_tokens": 2, "num_bytes": 9},
        {"nll": 0.0, "num_tokens": 1, "num_bytes": 3},
    ]
    assert both(load("perplexity"), texts, [None, None]) == pytest.approx(4)  # the mean would be 4.5
    assert both(load("perplexity", {"unit": "byte"}), texts, [None, None]) == pytest.approx(6 / 12)


def test_bits_per_byte_do_not_depend_on_the_tokenizer():
    words = {"nll": 12.5, "num_tokens": 5, "num_bytes": 40}
    letters = {"nll": 12.5, "num_tokens": 40, "num_bytes": 40}
    perplexity, bits = load("perplexity"), load("perplexity", {"unit": "byte"})
    assert both(perplexity, [words], [None]) != both(perplexity, [letters], [None])
    assert both(bits, [words], [None]) == both(bits, [letters], [None])
    assert (perplexity.scale, bits.scale) == ("log", "linear")
    with pytest.raises(UserError, match="token or byte"):
        load("perplexity", {"unit": "word"})


def test_a_model_that_diverged_has_infinite_perplexity_without_a_warning(recwarn):
    assert float(load("perplexity").score(np.array([1e6, 1]))) == math.inf
    assert not recwarn.list


@pytest.mark.parametrize("module", ["accuracy", "mse", "perplexity"])
def test_nothing_to_score_is_finite(module):
    metric = load(module)
    assert math.isfinite(float(metric.score(np.zeros(2))))
    assert math.isfinite(metric.library_score([], []))
