"""The loss in training: smoothed targets and weighted labels, summed over targets; evaluation stays plain."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional
from transformers.trainer_pt_utils import LabelSmoother

from pipelines.cli.main import main
from pipelines.config.load import load_run
from pipelines.errors import UserError
from pipelines.models.tokenizer import train_tokenizer
from pipelines.runs.prepare import load_data
from pipelines.tasks.ner import Ner
from pipelines.tasks.summarization import Summarization
from pipelines.tasks.text_classification import TextClassification
from pipelines.tasks.translation import Translation
from tests.pipelines.tasks.writing import FAMILIES, bound, model, rows

SMOOTHING = 0.2
WORDS = ["red", "green", "blue", "cat", "dog", "bird", "sits", "runs", "sings"]
TEXTS = [
    {"id": f"t{n}", "text": " ".join(WORDS[n % 3 : n % 3 + 3 + n % 4]), "label": "aab"[n % 3]}
    for n in range(12)
]
SENTENCES = [
    {"id": f"s{n}", "tokens": WORDS[n % 4 : n % 4 + 3 + n % 3], "tags": ["B-A", *["O"] * (2 + n % 3)]}
    for n in range(9)
]
TOKENIZER = train_tokenizer("encoder", [" ".join(WORDS)] * 5, 320)
HEADS = {
    TextClassification: transformers.BertForSequenceClassification,
    Ner: transformers.BertForTokenClassification,
}
ROWS = {TextClassification: TEXTS, Ner: SENTENCES}


def made(kind, **options):
    task = kind(**options)
    task.fit({"train": ROWS[kind]})
    task.bind(TOKENIZER, "encoder")
    return task


def head_of(task):
    torch.manual_seed(3)
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 29}
    config = transformers.BertConfig(vocab_size=len(TOKENIZER), **sizes, **task.model_options())
    return HEADS[type(task)](config).eval()


def logits_and_targets(task, net, batch):
    names = ("input_ids", "attention_mask", "token_type_ids")
    logits = net(**{name: batch[name] for name in names if name in batch}).logits
    return logits.flatten(0, -2), batch["labels"].flatten()


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("weights", [None, (0.5, 3.0)])
@pytest.mark.parametrize("smoothing", [0.0, SMOOTHING])
def test_the_loss_of_labels_is_the_sum_of_torchs_cross_entropy(kind, weights, smoothing):
    task = made(kind)
    task.label_smoothing = smoothing
    if weights and kind is Ner:
        weights = (*weights, 2.0)[: len(task.labels)]
    if weights:
        task.weigh(weights, ROWS[kind])
    net = head_of(task)
    batch = task.collate(task.prepare(ROWS[kind]))
    logits, targets = logits_and_targets(task, net, batch)
    factor = torch.tensor(weights or [1.0] * len(task.labels))
    # By hand: the target's share and an equal share of every label, each with the weight of its label.
    log_p, known = logits.log_softmax(-1), targets >= 0
    chosen = targets.clamp(min=0)
    hard = -factor[chosen] * log_p.gather(1, chosen[:, None])[:, 0]
    spread = -(factor * log_p).mean(-1)
    want = (((1 - smoothing) * hard + smoothing * spread) * known).sum()
    torch.testing.assert_close(task.loss(net, batch), want)
    theirs = functional.cross_entropy(
        logits, targets, weight=factor, label_smoothing=smoothing, reduction="sum", ignore_index=-100
    )
    torch.testing.assert_close(task.loss(net, batch), theirs)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", [Translation, Summarization])
def test_the_smoothed_loss_of_a_text_is_that_of_transformers(family, kind):
    task = bound(kind(max_source_len=32, max_target_len=9), family)
    task.label_smoothing = SMOOTHING
    net = model(family)
    batch = task.collate(task.prepare(rows()))
    with torch.no_grad():
        if family == "decoder":
            output = net(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        else:
            start = net.config.decoder_start_token_id
            known = batch["labels"].masked_fill(batch["labels"] < 0, net.config.pad_token_id)
            shifted = torch.cat([torch.full_like(known[:, :1], start), known[:, :-1]], dim=1)
            output = net(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                decoder_input_ids=shifted,
            )
        theirs = LabelSmoother(SMOOTHING)(output, batch["labels"], shift_labels=family == "decoder")
        ours = task.loss(net, batch)
    num_targets = sum(feature["num_targets"] for feature in task.prepare(rows()))
    torch.testing.assert_close(ours / num_targets, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", HEADS)
def test_however_a_batch_is_cut_the_sums_and_gradients_are_the_same(kind):
    task = made(kind)
    task.label_smoothing = SMOOTHING
    task.weigh("balanced", ROWS[kind])
    net, features = head_of(task), task.prepare(ROWS[kind])
    gradients = []
    for pieces in ([features], [features[:2], features[2:3], features[3:]]):
        net.zero_grad()
        for piece in pieces:
            task.loss(net, task.collate(piece)).backward()
        gradients.append(
            [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]
        )
    for one, other in zip(*gradients):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", HEADS)
def test_the_loss_of_evaluation_is_plain(kind):
    task, plain = made(kind), made(kind)
    task.label_smoothing = SMOOTHING
    task.weigh("balanced", ROWS[kind])
    net, batch = head_of(task), task.collate(task.prepare(ROWS[kind]))
    with torch.no_grad():
        losses = [[raw["loss"] for raw in one.predict(net, batch)] for one in (task, plain)]
        assert losses[0] == losses[1]
        assert task.loss(net, batch) != plain.loss(net, batch)


@pytest.mark.parametrize("kind", HEADS)
def test_balanced_weights_are_those_of_scikit_learn(kind):
    task = made(kind)
    task.weigh("balanced", ROWS[kind])
    stated = [row["label"] for row in TEXTS] if kind is TextClassification else None
    stated = stated or [tag for row in SENTENCES for tag in row["tags"]]
    theirs = compute_class_weight("balanced", classes=np.array(task.labels), y=stated)
    assert list(task.class_weights.values()) == pytest.approx(theirs.tolist())
    assert sum(task.class_weights[label] for label in stated) == pytest.approx(len(stated))


def test_weights_keep_their_labels_when_the_head_has_another_order():
    task = made(TextClassification)
    task.weigh((0.25, 4.0), TEXTS)
    assert task.target_loss.weights == (0.25, 4.0)
    task.set_order(["b", "a"])
    assert task.target_loss.weights == (4.0, 0.25)
    assert task.weights_line() == "class weights: b 4, a 0.25"


def test_a_wrong_number_of_weights_and_a_label_without_targets_are_refused():
    task = made(TextClassification, labels=["a", "b", "c"])
    with pytest.raises(
        UserError, match=r"another number of labels \(got \[1.0, 2.0\]\); one for each of a, b, c"
    ):
        task.weigh((1.0, 2.0), TEXTS)
    with pytest.raises(UserError, match="train has no target with the label 'c'"):
        task.weigh("balanced", TEXTS)


# ---- from the configuration on
MODEL = "model={architecture: bert, family: encoder, vocab_size: 300, config: {hidden_size: 24, \
num_hidden_layers: 1, num_attention_heads: 3, intermediate_size: 29}}"


def settings(task: str, *more: str) -> list[str]:
    return [f"task={task}", "data={train: rows.jsonl, validation: rows.jsonl}", MODEL, "device=cpu", *more]


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TEXTS))
    return tmp_path


def test_a_run_counts_and_shows_the_weights_of_its_own_rows(written, capsys):
    run = settings("text_classification", "class_weights=balanced", "label_smoothing=0.1", "max_steps=2")
    assert main(["train", *run, "--out", "out"]) == 0
    said = capsys.readouterr()
    assert "class weights: a 0.75, b 1.5" in said.out + said.err
    assert main(["inspect", *run]) == 0
    assert "class weights: a 0.75, b 1.5" in capsys.readouterr().out
    task, _ = load_data(load_run([], run))
    assert (task.label_smoothing, task.class_weights) == (0.1, {"a": 0.75, "b": 1.5})


@pytest.mark.parametrize(
    ("task", "setting", "right"),
    [
        (
            "question_answering",
            "label_smoothing=0.1",
            "label_smoothing does nothing in task question_answering",
        ),
        ("language_modelling", "label_smoothing=0.1", "does nothing in task language_modelling"),
        ("translation", "class_weights=balanced", "class_weights does nothing in task translation"),
        ("{name: text_classification, kind: regression}", "class_weights=[1, 2]", "with kind regression"),
        ("{name: text_classification, kind: multi_label}", "label_smoothing=0.1", "with kind multi_label"),
        ("text_classification", "class_weights=[1, -2]", "class_weights.1 must be above 0 (got -2)"),
        ("text_classification", "class_weights=[1]", "class_weights must be given, at least 2"),
        (
            "text_classification",
            "class_weights=even",
            "class_weights has an unknown value (got 'even'); accepted: bal",
        ),
        ("text_classification", "label_smoothing=1", "label_smoothing must be below 1"),
    ],
)
def test_what_a_task_does_not_honour_is_refused_by_validate(written, capsys, task, setting, right):
    assert main(["validate", *settings(task, setting)]) == 2
    assert right in capsys.readouterr().err


def test_every_task_that_honours_smoothing_changes_its_loss_by_it():
    """The list of the catalog and the code agree."""
    for kind in HEADS:
        task, plain = made(kind), made(kind)
        assert "label_smoothing" in task.loss_settings
        task.label_smoothing = SMOOTHING
        net, batch = head_of(task), task.collate(task.prepare(ROWS[kind]))
        assert task.loss(net, batch) != plain.loss(net, batch)
