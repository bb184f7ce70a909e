"""One label, several or a number: what rows may state, the loss of transformers, scores that add up."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
import transformers
from sklearn.metrics import accuracy_score, f1_score
from sklearn.preprocessing import MultiLabelBinarizer

from pipelines.errors import UserError
from pipelines.metrics.adapter import reported_score
from pipelines.metrics.base import total
from pipelines.metrics.classification_f1 import ClassificationF1
from pipelines.metrics.load import load
from pipelines.tasks.shared.label_kinds import KINDS
from pipelines.tasks.text_classification import TextClassification
from tests.pipelines.tasks.test_text_classification import SIZES, TOKENIZERS

TEXTS = ["a fine film", "dull and long", "quite good", "not for me", "a fine cast", "too long"]


def rows(labels) -> list[dict]:
    return [
        {"id": str(n), "text": text, "label": label} for n, (text, label) in enumerate(zip(TEXTS, labels))
    ]


def fitted(stated, family: str = "encoder", **options) -> TextClassification:
    made = TextClassification(**options)
    found = rows(stated)
    assert [made.check(row) for row in found] == [None] * len(found)
    made.fit({"train": found})
    made.bind(TOKENIZERS[family], family)
    return made


MANY = [["drama"], [], ["comedy", "drama"], ["war"], ["drama", "war"], ["comedy"]]
NUMBERS = [3.5, 1, "2.25", 0.0, 4.75, 2]


# ---- what rows may state
@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, 1, 0, 0, 1],
        [False, True, True, False, False, True],
        [0.0, 1.0, 1.0, 0.0, 0.0, 1.0],
        ["0", "1", "1", "0", "0", "1"],
        ["False", "true", "1.0", "no", "FALSE", "yes"],
    ],
)
def test_numbered_labels_of_any_type_have_the_names_that_are_given(labels):
    made = fitted(labels, labels=["no", "yes"])
    assert [made.reference(row) for row in rows(labels)] == ["no", "yes", "yes", "no", "no", "yes"]
    assert [feature["label"] for feature in made.prepare(rows(labels))] == [0, 1, 1, 0, 0, 1]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([10, 2, 1, 2, 1, 10], ["1", "2", "10"]),
        ([2.0, 1.0, 1.0, 2.0, 1.0, 2.0], ["1", "2"]),
        (["10", "9", "9", "10", "9", "9"], ["9", "10"]),
        ([True, False, True, False, True, True], ["false", "true"]),
        (["True", "False", "True", "False", "True", "True"], ["False", "True"]),
    ],
)
def test_a_number_without_a_name_is_its_own_name_in_the_order_of_numbers(labels, names):
    made = fitted(labels)
    assert made.state()["labels"] == names
    assert list(made.model_options()["id2label"].values()) == names


@pytest.mark.parametrize(
    ("kind", "label", "reason"),
    [
        ("single", [1, 0], "task.kind: multi_label learns them"),
        ("single", 7, "has the label 7, and task.labels names 3, from 0 on"),
        ("single", "wor", "which task.labels does not list"),
        ("single", {"a": 1}, "neither text nor a number"),
        ("multi_label", "war", "needs a list of labels"),
        ("multi_label", ["war", "war"], "has one label twice"),
        ("multi_label", [1, 0, 1], "has one label twice"),
        ("multi_label", ["war", None], "neither text nor a number"),
        ("multi_label", [0.2, 0.3, 1.0], "not all 0.0 or 1.0"),
    ],
)
def test_a_label_of_another_kind_is_refused_with_what_to_set(kind, label, reason):
    made = TextClassification(labels=["comedy", "drama", "war"], kind=kind)
    assert reason in (made.check(rows([label])[0]) or "")


@pytest.mark.parametrize("label", ["high", float("inf"), [1.0], {"a": 1}])
def test_a_number_to_predict_must_be_one(label):
    assert "regression needs a number" in (
        TextClassification(kind="regression").check(rows([label])[0]) or ""
    )


@pytest.mark.parametrize("given", [[0.0, 1.0, 1.0], [False, True, True], [1, 2], ["war", 1]])
def test_several_labels_are_names_numbers_or_a_yes_or_no_for_each(given):
    made = TextClassification(labels=["comedy", "drama", "war"], kind="multi_label")
    assert made.reference({"label": given}) == ["drama", "war"]


# ---- learning
@pytest.mark.parametrize("family", TOKENIZERS)
@pytest.mark.parametrize(("kind", "labels"), [("multi_label", MANY), ("regression", NUMBERS)])
def test_the_loss_is_that_of_transformers_for_the_problem_type_of_the_config(family, kind, labels):
    made = fitted(labels, family, kind=kind)
    architecture, sizes = SIZES[family]
    torch.manual_seed(0)
    vocabulary = {"vocab_size": len(made.processor), "eos_token_id": made.processor.eos_token_id}
    config = transformers.AutoConfig.for_model(architecture, **vocabulary, **sizes, **made.model_options())
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    assert config.problem_type == KINDS[kind].problem_type
    assert config.num_labels == (3 if kind == "multi_label" else 1)
    batch = made.collate(made.prepare(rows(labels)))
    with torch.no_grad():
        theirs = model(**batch).loss
        ours = made.loss(model, batch) / len(labels)
        raws = made.predict(model, batch)
        torch.testing.assert_close(ours, theirs)
        assert sum(raw["loss"] for raw in raws) / len(labels) == pytest.approx(float(theirs), rel=1e-5)
        unlabelled = [{key: row[key] for key in ("id", "text")} for row in rows(labels)]
        again = made.predict(model, made.collate(made.prepare(unlabelled)))
    assert [raw["loss"] for raw in again] == [0] * len(labels)
    for row, raw, other in zip(rows(labels), raws, again):
        assert made.assemble(row, [raw]) == made.assemble(row, [other])


def test_an_answer_states_the_labels_above_one_half_or_the_number():
    made = fitted(MANY, kind="multi_label")
    answer = made.answer({}, [{"probabilities": [0.75, 0.25, 0.5]}])
    assert answer == {
        "labels": ["comedy", "war"],
        "probabilities": {"comedy": 0.75, "war": 0.5, "drama": 0.25},
    }
    assert fitted(NUMBERS, kind="regression").answer({}, [{"value": 2.5}]) == {"value": 2.5}


@pytest.mark.parametrize(
    ("kind", "labels", "metric", "baseline"),
    [("single", ["a", "b"] * 3, "accuracy", "a"), ("multi_label", MANY, "f1_micro", None),
     ("regression", NUMBERS, "pearson", 2.25)],
)  # fmt: skip
def test_each_kind_has_its_metrics_and_its_baseline(kind, labels, metric, baseline):
    made = fitted(labels, kind=kind)
    assert made.selects_by == metric == next(iter(made.metrics))
    [predict] = made.baselines(rows(labels)).values()
    assert predict({}) == (baseline if baseline is not None else predict({}))
    assert [one.name for one in made.metrics.values() if not one.higher_is_better] == (
        ["mse"] if kind == "regression" else []
    )


# ---- scoring
def test_several_labels_are_scored_as_scikit_learn_does():
    rng = np.random.default_rng(0)
    names = ["a", "b", "c d", "never"]
    draw = lambda: [[name for name in names[:3] if rng.random() < 0.5] for _ in range(40)]
    predictions, references = draw(), draw()
    places = MultiLabelBinarizer(classes=names[:3])
    gold, found = places.fit_transform(references), places.transform(predictions)
    for average in ("macro", "micro"):
        metric = ClassificationF1(names, average)
        score = reported_score(metric, predictions, references, metric.table(predictions, references))
        assert score == pytest.approx(100 * f1_score(gold, found, average=average))
    exact = load("exact_match")
    score = reported_score(exact, predictions, references, exact.table(predictions, references))
    assert score == pytest.approx(100 * accuracy_score(gold, found))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_correlations_are_scipys_with_and_without_each_example(name, ties):
    rng = np.random.default_rng(5)
    x = rng.normal(size=23) + 1e4
    y = x + rng.normal(size=23)
    if ties:
        x, y = np.round(x), np.round(y)
    theirs = {"pearson": scipy.stats.pearsonr, "spearman": scipy.stats.spearmanr}[name]
    metric = load(name)
    table = metric.table(x.tolist(), y.tolist())
    assert reported_score(metric, x.tolist(), y.tolist(), table) == pytest.approx(
        100 * theirs(x, y).statistic
    )
    ours = np.array([metric.score(total(table) - row) for row in table])
    left = [100 * theirs(np.delete(x, place), np.delete(y, place)).statistic for place in range(23)]
    assert np.ptp(ours - left) < 1e-9  # Spearman's are shifted alike, which no jackknife sees


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_a_constant_prediction_correlates_with_nothing(name):
    metric = load(name)
    for x, y in (([0.1] * 5, [1, 2, 3, 4, 5]), ([3.0], [2.0]), ([1.0, 2.0], [0.3, 0.3])):
        assert reported_score(metric, x, y, metric.table(x, y)) == 0
    assert float(metric.score(total(metric.table([], [])))) == 0


# ---- what cannot be meant
@pytest.mark.parametrize("kind", ["single", "regression"])
def test_a_number_of_any_size_is_a_label_or_refused(kind):
    reason = TextClassification(kind=kind).check(rows([10**400])[0])
    assert (reason is None) == (kind == "single")


@pytest.mark.parametrize("number", [1e20, "-3e38", 1e39])
def test_a_number_whose_square_is_no_float32_is_refused(number):
    assert "too large for float32" in TextClassification(kind="regression").check(rows([number])[0])
    assert TextClassification(kind="regression").check(rows([1e18])[0]) is None


@pytest.mark.parametrize(
    ("label", "names"),
    [
        ([1.0, 0.0], None),
        ([True, False, True], None),
        ([1.0, 0.0], ["a", "b", "c"]),
        ([0.0, 1.0, 1.0], ["a", "b"]),
    ],
)
def test_a_yes_or_no_for_each_of_other_labels_is_not_read_as_their_numbers(label, names):
    reason = TextClassification(kind="multi_label", labels=names).check(rows([label])[0])
    assert f"a yes or no for each of {len(label)} labels" in reason


@pytest.mark.parametrize("label", [[0, 1], [1, 0]])
def test_two_whole_numbers_that_may_be_answers_are_told(label):
    named = TextClassification(kind="multi_label", labels=["toxic", "rude"])
    assert "may be both labels, or a yes or no for each" in named.check(rows([label])[0])
    assert named.check(rows([["rude", "toxic"]])[0]) is None
    assert named.check(rows([[True, False]])[0]) is None
    unnamed = TextClassification(kind="multi_label")
    with pytest.raises(UserError, match="every row of train has every label, so nothing can be learned"):
        unnamed.fit({"train": rows([label, [1, 0], [0, 1]])})
    unnamed.fit({"train": rows([label, [1], []])})
    assert unnamed.labels == ["0", "1"]
