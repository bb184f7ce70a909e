"""SQuAD scores by hand, and where versions 1.1 and 2.0 part; both agree with the official scripts."""

import pytest

from pipelines.errors import UserError
from pipelines.metrics.base import total
from pipelines.metrics.load import load


def scores(prediction, reference, version="1.1"):
    return tuple(
        load("squad", {"measure": m, "version": version}).library_score([prediction], [reference])
        for m in ("exact_match", "f1")
    )


@pytest.mark.parametrize(
    ("prediction", "golds", "expected"),
    [
        ("1976", ["1976"], (100, 100)),
        ("The  Eiffel-Tower!", ["eiffeltower"], (100, 100)),
        ("a red big cat", ["the cat", "red cat"], (0, 80)),  # 2 of 3 predicted, 2 of 2 gold
        ("cat cat", ["cat"], (0, pytest.approx(200 / 3))),  # a repeated word counts once
        ("“cat”", ["cat"], (0, 0)),  # only ASCII punctuation is stripped
        ("theater", ["ater"], (0, 0)),  # an article inside a word stays
        ("", ["cat"], (0, 0)),
    ],
)
def test_hand_computed_answers(prediction, golds, expected):
    assert scores(prediction, golds) == expected
    assert scores(prediction, golds, "2.0") == expected


def test_two_answers_of_nothing_but_articles_differ_between_the_versions():
    assert scores("the", ["a"], "1.1") == (100, 0)
    assert scores("the", ["a"], "2.0") == (100, 100)


def test_no_answer_is_right_only_where_there_is_none():
    assert scores("", [], "2.0") == (100, 100)
    assert scores("cat", [], "2.0") == (0, 0)
    assert scores("", ["cat"], "2.0") == (0, 0)
    with pytest.raises(UserError, match="no gold answer"):
        scores("cat", [], "1.1")


def test_squads_own_shapes_are_read():
    assert scores({"text": "cat", "score": 1.5}, {"text": ["cat"], "answer_start": [4]}) == (100, 100)


def test_the_subsets_of_version_2_part_the_questions():
    predictions, references = ["cat", "", "dog", "x"], [["cat"], [], ["cat"], []]

    def score(subset):
        metric = load("squad", {"measure": "exact_match", "version": "2.0", "subset": subset})
        summed = total([metric.statistics(p, r) for p, r in zip(predictions, references)])
        assert float(metric.score(summed)) == metric.library_score(predictions, references)
        return metric.name, float(metric.score(summed)), summed[1]

    assert score("all") == ("exact_match", 50, 4)
    assert score("answerable") == ("exact_match_answerable", 50, 2)
    assert score("unanswerable") == ("exact_match_unanswerable", 50, 2)


def test_unknown_options_are_named():
    for option in ({"measure": "em"}, {"version": "3"}, {"subset": "hard"}):
        with pytest.raises(UserError, match=next(iter(option))):
            load("squad", option)
