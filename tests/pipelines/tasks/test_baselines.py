"""What needs no model scores as the corpora say it does, and inspect shows it."""

from __future__ import annotations

import math

import pytest
import yaml

from pipelines.cli.main import main
from pipelines.corpora import ner, question_answering, summarization, translation
from pipelines.tasks.generative_question_answering import GenerativeQuestionAnswering
from pipelines.tasks.language_modelling import LanguageModelling
from pipelines.tasks.ner import Ner
from pipelines.tasks.question_answering import QuestionAnswering
from pipelines.tasks.shared.baselines import baseline_scores, best_baseline
from pipelines.tasks.summarization import Summarization
from pipelines.tasks.text_classification import TextClassification
from pipelines.tasks.translation import Translation
from tests.pipelines.tasks.writing import FAMILIES, bound


def rows(corpus, count: int, split: str, **options) -> list[dict]:
    return [row | {"id": str(n)} for n, row in enumerate(corpus.generate(count, 0, split, **options))]


def near(value: float) -> object:
    return pytest.approx(value, abs=0.06)


def test_the_most_frequent_tag_of_each_word_by_hand_and_on_the_corpus():
    task = Ner()
    train = [
        {"tokens": ["Kent", "slept", "."], "tags": ["B-PER", "O", "O"]},
        {"tokens": ["Kent", "."], "tags": ["B-LOC", "O"]},
        {"tokens": ["Kent", "saw", "Kent"], "tags": ["B-PER", "O", "B-PER"]},
    ]
    task.fit({"train": train})
    guess, none = task.baselines(train).values()
    assert guess({"tokens": ["slept", "Kent", "Oslo"]}) == ["O", "B-PER", "O"]
    assert none({"tokens": ["slept", "Kent"]}) == ["O", "O"]
    train = rows(ner, 2000, "train")
    task.fit({"train": train})
    scores, floor = baseline_scores(task, train, rows(ner, 400, "test")).values()
    assert floor["f1"] == 0
    assert scores["f1"] == near(35.26)


@pytest.mark.parametrize("task", [QuestionAnswering(), GenerativeQuestionAnswering()])
def test_the_longest_word_answers_few_questions(task):
    scores = baseline_scores(task, [], rows(question_answering, 300, "test"))
    assert scores["longest word"]["f1"] == near(15.3)


def test_saying_nothing_answers_the_questions_without_an_answer():
    tests = rows(question_answering, 200, "test", unanswerable=0.4)
    scores = baseline_scores(QuestionAnswering(unanswerable=True), [], tests)
    share = 100 * sum(not row["answers"] for row in tests) / len(tests)
    assert scores["never an answer"]["f1"] == pytest.approx(share)
    assert scores["never an answer"]["exact_match_unanswerable"] == 100


def test_copies_and_leads_score_as_the_corpora_say():
    train, tests = rows(translation, 100, "train"), rows(translation, 400, "test")
    scores = baseline_scores(Translation(), train, tests)
    assert scores["source copied"] == {"bleu": near(0.08), "chrf": near(13.45)}
    train, tests = rows(summarization, 100, "train"), rows(summarization, 400, "test")
    scores = baseline_scores(Summarization(), train, tests)
    assert (scores["first sentence"]["rouge1"], scores["first sentence"]["rougeL"]) == near((8.49, 8.49))
    assert (scores["first three sentences"]["rouge1"], scores["first three sentences"]["rougeL"]) == near(
        (17.84, 16.48)
    )


def test_the_most_frequent_label_and_target():
    task = TextClassification()
    train = [{"text": "x", "label": label} for label in ("no", "yes", "yes")]
    task.fit({"train": train})
    assert baseline_scores(task, train, train)["most frequent label"]["accuracy"] == pytest.approx(200 / 3)
    train = [{"source": "a", "target": target} for target in ("b", ["c", "b"], "c")]
    assert Translation().baselines(train)["most frequent target"]({"source": "z"}) == "c"


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_by_their_frequency_are_counted_as_the_model_is_asked_for_them(family):
    task = bound(LanguageModelling(max_len=12, overlap=3), family)
    train = [{"id": str(n), "text": "one two three one one"} for n in range(9)]
    row = {"id": "x", "text": "one two one"}
    [guess] = task.baselines(train).values()
    said = guess(row)
    features = task.prepare([row])
    assert said["num_tokens"] == sum(feature["num_targets"] for feature in features)
    if family == "decoder":  # one, two, one and the end; 45 words and 9 ends were counted
        size = 54 + len(task.processor)
        by_hand = -sum(math.log((count + 1) / size) for count in (27, 9, 27, 9))
        assert said["nll"] == pytest.approx(by_hand)
        assert said["num_bytes"] == len("one two one")
    way, score = best_baseline(task, baseline_scores(task, train, [row]), "perplexity")
    assert (way, score) == (
        "tokens by their frequency",
        pytest.approx(math.exp(said["nll"] / said["num_tokens"])),
    )


def test_inspect_shows_what_needs_no_model(tmp_path, capsys):
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 29}
    settings = {
        "task": "ner",
        "data": {"generated": {"name": "ner", "train": 60, "validation": 20}},
        "model": {"architecture": "bert", "family": "encoder", "vocab_size": 320, "config": sizes},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    assert main(["inspect", str(tmp_path / "run.yaml")]) == 0
    said = capsys.readouterr().out
    assert "without a model\n  most frequent tag of each word: f1 " in said
    assert "on 20 validation examples" in said
