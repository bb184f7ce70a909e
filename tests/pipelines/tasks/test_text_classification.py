"""Text classification: labels and their names, pairs, what is cut, and macro and micro F1."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from pipelines.corpora.text_classification import generate
from pipelines.errors import UserError
from pipelines.metrics.base import total
from pipelines.metrics.classification_f1 import ClassificationF1
from pipelines.metrics.load import load
from pipelines.models.tokenizer import train_tokenizer
from pipelines.tasks.shared.label_kinds import IGNORED
from pipelines.tasks.text_classification import TextClassification, _kept

SINGLE = [row | {"id": str(n)} for n, row in enumerate(generate(30, 0, "train"))]
PAIRS = [row | {"id": str(n)} for n, row in enumerate(generate(30, 0, "train", pairs=True))]
TOKENIZERS = {
    family: train_tokenizer(family, (text for row in PAIRS for text in (row["text"], row["text_pair"])), 320)
    for family in ("encoder", "decoder", "encoder_decoder")
}
SIZES = {
    "encoder": (
        "bert",
        {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 29},
    ),
    "decoder": ("gpt2", {"n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 64}),
    "encoder_decoder": (
        "t5",
        {"d_model": 24, "d_kv": 7, "num_layers": 2, "num_heads": 3, "d_ff": 29, "decoder_start_token_id": 0},
    ),
}  # fmt: skip


def task(family: str = "encoder", rows=SINGLE, **options) -> TextClassification:
    made = TextClassification(**options)
    made.fit({"train": rows})
    made.bind(TOKENIZERS[family], family)
    return made


def tiny_model(made: TextClassification):
    architecture, sizes = SIZES[made.family]
    torch.manual_seed(0)
    vocabulary = {"vocab_size": len(made.processor), "eos_token_id": made.processor.eos_token_id}
    model_config = transformers.AutoConfig.for_model(
        architecture, **vocabulary, **sizes, **made.model_options()
    )
    return transformers.AutoModelForSequenceClassification.from_config(model_config).eval()


@pytest.mark.parametrize("family", TOKENIZERS)
@pytest.mark.parametrize("rows", [SINGLE, PAIRS], ids=["single", "pairs"])
def test_neither_batches_nor_padding_change_loss_or_probabilities(family, rows):
    made = task(family, rows, max_len=40)
    model = tiny_model(made)
    features = made.prepare(rows[:9])
    with torch.no_grad():
        alone = [made.predict(model, made.collate([feature]))[0] for feature in features]
        together = made.predict(model, made.collate(features))
        summed = made.loss(model, made.collate(features)).item()
    tolerance = {"rel": 200 * torch.finfo(torch.float32).eps, "abs": 1e-5}
    for one, other in zip(alone, together):
        assert one["probabilities"] == pytest.approx(other["probabilities"], **tolerance)
    assert summed == pytest.approx(sum(one["loss"] for one in alone), **tolerance)


def test_the_mean_loss_is_that_of_transformers():
    made = task()
    model = tiny_model(made)
    batch = made.collate(made.prepare(SINGLE[:5]))
    names = ("input_ids", "attention_mask", "token_type_ids")
    theirs = model(**{name: batch[name] for name in names}, labels=batch["labels"]).loss
    torch.testing.assert_close(made.loss(model, batch) / 5, theirs)


def test_a_pair_keeps_both_texts_and_its_second_segment():
    made = task("encoder", PAIRS)
    [feature] = made.prepare(PAIRS[:1])
    whole = TOKENIZERS["encoder"](PAIRS[0]["text"], PAIRS[0]["text_pair"])
    batch = made.collate([feature])
    assert feature["input_ids"] == whole["input_ids"]
    assert batch["token_type_ids"][0].tolist() == whole["token_type_ids"]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(2, 50))
def test_of_two_texts_the_longer_gives_way_and_nothing_is_wasted(first, second, capacity):
    kept = _kept(first, second, capacity)
    assert sum(kept) == min(first + second, capacity)
    assert kept[0] <= first
    assert kept[1] <= second
    cut = [whole > left for whole, left in zip((first, second), kept)]
    if cut == [True, False]:
        assert kept[0] >= kept[1] - 1
    if cut == [False, True]:
        assert kept[1] >= kept[0] - 1


def test_long_texts_are_cut_and_counted():
    made = task("encoder", max_len=8)
    rows = [
        {"id": "a", "text": "good " * 50, "label": "positive"},
        {"id": "b", "text": "good", "label": "positive"},
    ]
    long, short = made.prepare(rows)
    assert len(long["input_ids"]) == 8
    assert long["input_ids"][-1] == short["input_ids"][-1]  # [SEP] stays
    assert made.counts == {"examples": 2, "examples_cut": 1}


def test_labels_are_those_of_train_or_those_of_the_option():
    assert task().state()["labels"] == ["negative", "positive"]
    made = TextClassification(labels=["no", "yes", "maybe"])
    made.fit({"train": [{"text": "a", "label": 1}, {"text": "b", "label": "no"}]})
    made.bind(TOKENIZERS["encoder"], "encoder")
    assert made.model_options()["id2label"] == {0: "no", 1: "yes", 2: "maybe"}
    rows = [
        {"id": "a", "text": "good", "label": 2},
        {"id": "b", "text": "good", "label": "yes"},
        {"id": "c", "text": "x"},
    ]
    assert [feature["label"] for feature in made.prepare(rows)] == [2, 1, IGNORED]
    assert made.reference(rows[0]) == "maybe"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"label": 1}, "has the label '1', which no row of train has"),
        ({"label": -1}, "the label -1, which data sets use for no label"),
        ({"label": ["positive"]}, r"has a list of labels \(task.kind: multi_label"),
        ({"label": float("nan")}, "no whole number"),
        ({"label": ""}, "neither text nor a number"),
        ({"label": "mixed"}, "has the label 'mixed', which no row of train has"),
        ({"label": 0.5}, r"no whole number \(task.kind: regression"),
        ({"text": " "}, "has an empty text"),
        ({"text": 3}, "has a text that is not text: 3"),
        ({"text_pair": "b"}, "has a text_pair, unlike the rows of train"),
    ],
)
def test_a_faulty_row_is_refused_with_its_reason(changes, reason):
    assert re.search(reason, task().check(SINGLE[0] | changes) or "")
    assert task().check(SINGLE[0]) is None


def test_labels_and_pairs_that_cannot_work_are_refused():
    for labels in (["one"], ["a", "a"], ["a", ""]):
        with pytest.raises(UserError, match="two or more distinct"):
            TextClassification(labels=labels)
    with pytest.raises(UserError, match="30 of 60 rows of train have no second text"):
        TextClassification().fit({"train": [*SINGLE, *PAIRS]})
    with pytest.raises(UserError, match="two or more distinct"):
        TextClassification().fit({"train": [{"text": "a", "label": "only"}]})
    with pytest.raises(UserError, match="JSON lines with text and text_pair"):
        task("encoder", PAIRS).from_text("a line")


def test_an_answer_names_every_label_with_its_probability():
    made = task()
    answer = made.answer(SINGLE[0], [{"probabilities": [0.25, 0.75]}])
    assert answer == {
        "label": "positive",
        "probability": 0.75,
        "probabilities": {"positive": 0.75, "negative": 0.25},
    }


# ---- the metric
LABELS = ["b", "a", "c d", "kein"]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=20))
def test_macro_and_micro_f1_are_those_of_scikit_learn(pairs):
    predictions, references = zip(*pairs)
    for average in ("macro", "micro"):
        metric = ClassificationF1(LABELS, average)
        sums = total(np.stack([metric.statistics(*pair) for pair in pairs]))
        theirs = 100 * f1_score(references, predictions, average=average, zero_division=0)
        assert float(metric.score(sums)) == pytest.approx(theirs, rel=1e-12)
        assert metric.library_score(predictions, references) == pytest.approx(theirs, rel=1e-12)
        again = load("classification_f1", metric.options)
        assert again.signature == metric.signature
        assert again.columns == metric.columns


def test_f1_by_hand():
    """evaluation.md 1.5: references 0 2 2, predictions 0 1 2 -> macro .5556."""
    metric = ClassificationF1(["0", "1", "2"])
    sums = sum(metric.statistics(p, r) for p, r in zip("012", "022"))
    assert float(metric.score(sums)) == pytest.approx(55.5556, abs=1e-4)
    assert float(ClassificationF1(["0", "1"], "macro").score(np.zeros(6))) == 0.0
    assert metric.score(np.stack([sums, 2 * sums])) == pytest.approx([55.5556] * 2, abs=1e-4)
