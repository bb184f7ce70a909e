"""Entity F1 is what seqeval says, in both readings of the tags."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import UserError
from pipelines.metrics.base import total
from pipelines.metrics.load import load

LENIENT, STRICT = load("entity_f1"), load("entity_f1", {"strict": True})
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-work-of-art", "I-work-of-art"]


@st.composite
def corpora(draw, tags=tuple(TAGS)):
    """Predictions and references of a few sentences, some empty, lengths equal within a sentence."""
    lengths = draw(st.lists(st.integers(0, 7), min_size=1, max_size=5))
    tag = st.sampled_from(tags)
    return tuple([draw(st.lists(tag, min_size=n, max_size=n)) for n in lengths] for _ in range(2))


def summed(metric, predictions, references):
    return total([metric.statistics(p, r) for p, r in zip(predictions, references, strict=True)])


@pytest.mark.parametrize("metric", [LENIENT, STRICT], ids=lambda m: m.name)
@given(corpora())
@settings(max_examples=150, deadline=None)
def test_the_score_of_summed_counts_is_seqevals_to_the_last_bit(metric, corpus):
    assert float(metric.score(summed(metric, *corpus))) == metric.library_score(*corpus)


def test_the_worked_example_of_seqeval():
    references = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    predictions = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    assert summed(LENIENT, predictions, references).tolist() == [1, 2, 2]
    assert LENIENT.library_score(predictions, references) == 50
    by_type = LENIENT.per_type(predictions, references)
    assert by_type["PER"] == {"score": 100, "true_positives": 1, "predicted": 1, "gold": 1}
    assert by_type["MISC"]["score"] == 0


def test_an_entity_that_begins_with_i_counts_in_the_default_only():
    reference, prediction = (
        ["B-PER", "I-PER", "O", "B-LOC", "B-ORG"],
        ["I-PER", "I-PER", "O", "B-LOC", "I-ORG"],
    )
    assert LENIENT.score(LENIENT.statistics(prediction, reference)) == 100
    assert STRICT.score(STRICT.statistics(prediction, reference)) == 50


def test_no_entities_at_all_score_zero_without_a_warning(recwarn):
    outside = [["O", "O"]]
    for metric in (LENIENT, STRICT):
        assert metric.score(summed(metric, outside, outside)) == 0 == metric.library_score(outside, outside)
    assert not recwarn.list


def test_a_prediction_of_another_length_is_an_error_never_a_silent_cut():
    with pytest.raises(ValueError, match="1 predicted tags for 2 words"):
        LENIENT.statistics(["O"], ["O", "O"])


def test_a_tag_of_another_scheme_is_refused_by_name():
    with pytest.raises(UserError, match="E-PER"):
        STRICT.statistics(["E-PER"], ["O"])


def test_scores_are_computed_for_a_whole_array_of_sums():
    sums = np.array([[[1, 2, 2], [0, 0, 0], [3, 3, 3]]])
    assert LENIENT.score(sums).tolist() == [[50, 0, 100]]


def test_a_metric_is_rebuilt_from_its_module_and_options():
    again = load(STRICT.module, STRICT.options)
    assert (again.name, again.signature) == (STRICT.name, STRICT.signature)
    assert "strict" in STRICT.signature
    with pytest.raises(UserError, match="entity_f1"):
        load("entity_f2")
    with pytest.raises(UserError, match="strictly"):
        load("entity_f1", {"strictly": True})
