"""Written answers: what is read and learned by hand, what is refused, and nothing written is no answer."""

from __future__ import annotations

import pytest
import torch

from pipelines.data.features import build
from pipelines.metrics.base import total
from pipelines.models.tokenizer import train_tokenizer
from pipelines.tasks.generative_question_answering import GenerativeQuestionAnswering
from pipelines.train.evaluate import by_example
from tests.pipelines.tasks.writing import FAMILIES, bound, model

ROWS = [
    {"id": "a", "question": " one two ?", "context": "three four five .", "answers": ["four five", "four"]},
    {"id": "b", "question": "six ?", "context": "three four five .", "answers": []},
    {"id": "c", "question": "two ?", "context": "one two three one two three .", "answers": ["three one"]},
]
WORDS = "question : context : answer: one two three four five six ? ."


def task(family: str, **options) -> GenerativeQuestionAnswering:
    made = GenerativeQuestionAnswering(
        **{"unanswerable": True, "max_source_len": 20, "max_target_len": 4, **options}
    )
    made.bind(train_tokenizer(family, iter([WORDS] * 9), 500), family)
    return made


def tokens(made, ids) -> list[str]:
    return [token.strip("▁Ġ") for token in made.processor.convert_ids_to_tokens(list(ids))]


GOLDEN = {
    "encoder": ("[CLS] question : one two ? context : three four five . [SEP]", "[CLS] four five [SEP]"),
    "decoder": ("question: one two ? context: three four five . answer:", "four five <|endoftext|>"),
    "encoder_decoder": ("question: one two ? context: three four five . </s>", "four five </s>"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_question_and_context_are_read_and_the_first_answer_is_learned(family):
    made = task(family)
    feature, nothing, _ = made.prepare(ROWS)
    read, written = GOLDEN[family]
    joined = "".join(tokens(made, feature["input_ids"])).replace("Ċ", "")
    assert joined == read.replace(" ", "")
    assert tokens(made, feature["labels"]) == written.split()
    around = [token for token in written.split() if token not in ("four", "five")]
    assert tokens(made, nothing["labels"]) == around  # no answer: the end at once
    assert (feature["num_targets"], nothing["num_targets"]) == (len(around) + 2, len(around))


def test_a_long_context_is_cut_and_counted_and_the_question_stays():
    made = task("encoder_decoder", max_source_len=9)
    [feature] = made.prepare(ROWS[2:])
    assert "".join(tokens(made, feature["input_ids"])).startswith("question:two?context:")
    assert len(feature["input_ids"]) == 9
    assert made.counts == {"examples": 1, "sources_cut": 1, "targets_cut": 0}


def test_scores_are_those_of_squad_and_nothing_written_is_no_answer():
    made = task("encoder_decoder")
    said = ["Four, five!", "", "three"]
    assert [made.reference(row) for row in ROWS] == [row["answers"] for row in ROWS]
    scores = {
        name: float(
            metric.score(total([metric.statistics(p, made.reference(r)) for p, r in zip(said, ROWS)]))
        )
        for name, metric in made.metrics.items()
    }
    # F1 of "three" and "three one": precision 1, recall 1/2
    assert scores == pytest.approx(
        {
            "f1": 100 * (1 + 1 + 2 / 3) / 3,
            "exact_match": 200 / 3,
            "f1_answerable": 100 * (1 + 2 / 3) / 2,
            "exact_match_unanswerable": 100.0,
        }
    )


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"question": " "}, "has an empty question"),
        ({"context": None}, "has a context that is not text: None"),
        ({"answers": []}, "has no answer (set task.unanswerable: true"),
        ({"answers": ["four", 3]}, "has an answer that is not text: 3"),
        ({"answers": [" "]}, "has an answer that is not text: ' '"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(changed, reason):
    made = GenerativeQuestionAnswering()
    assert made.check(ROWS[0]) is None
    assert reason in made.check(ROWS[0] | changed)
    assert made.check({"id": "d", "question": "who ?", "context": "x"}) is None  # to be predicted


@pytest.mark.parametrize("family", FAMILIES)
def test_every_question_gets_one_written_answer_whatever_stands_beside_it(family):
    made = bound(GenerativeQuestionAnswering(True, max_source_len=30, max_target_len=4), family)
    built = model(family)
    features = build(made, ROWS, "test", None, "")
    with torch.no_grad():
        raws = made.predict(built, made.collate(list(features)))
        alone = [made.predict(built, made.collate([feature]))[0] for feature in features]
    assert [raw["tokens"] for raw in raws] == [raw["tokens"] for raw in alone]
    groups = by_example(ROWS, features, raws)
    assert all(isinstance(made.assemble(row, group), str) for row, group in zip(ROWS, groups))
    assert [made.cluster(row) for row in ROWS[:2]] == [made.cluster(ROWS[0])] * 2
    assert made.cluster(ROWS[2]) != made.cluster(ROWS[0])
