"""Guarantee 1: a global batch gives the same gradient for any micro-batches and number of processes."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.distributed.stop import StopRequest
from pipelines.storage.run_folder import read_log
from tests.pipelines.train.harness import (
    ARCHITECTURES,
    ToyTagging,
    build,
    fit,
    prepared,
    rows,
    run_ranks,
    tiny_model,
    weights,
)

TOLERANCE = 1e-5


def fit_and_save(folder, options):
    training = fit(folder, **options)
    if training.accelerator.is_main_process:
        save_file({n: t.contiguous() for n, t in weights(training).items()}, folder / "final.safetensors")
        (folder / "scores.json").write_text(json.dumps(training.state.best_scores))


def losses(folder):
    return [event["loss"] for event in read_log(folder / "metrics.jsonl") if event["event"] == "step"]


def compare(one, other):
    assert losses(one) == pytest.approx(losses(other), rel=TOLERANCE)
    first, second = load_file(one / "final.safetensors"), load_file(other / "final.safetensors")
    difference = max((first[name] - second[name]).abs().max().item() for name in first)
    assert difference <= TOLERANCE


@pytest.fixture(scope="module", params=ARCHITECTURES)
def whole(request, tmp_path_factory):
    """A run whose steps are single micro-batches in one process."""
    folder = tmp_path_factory.mktemp(request.param)
    options = {"architecture": request.param, "dropout": 0.0}
    assert run_ranks(fit_and_save, 1, folder, options) == [0]
    assert len(losses(folder)) == 12
    return folder, options


def test_cutting_a_step_into_micro_batches_changes_nothing(whole, tmp_path):
    folder, options = whole
    assert run_ranks(fit_and_save, 1, tmp_path, {**options, "max_tokens": 17}) == [0]
    compare(folder, tmp_path)


def test_two_processes_train_as_one_does(whole, tmp_path):
    folder, options = whole
    assert run_ranks(fit_and_save, 2, tmp_path, {**options, "processes": 2}) == [0, 0]
    compare(folder, tmp_path)


def test_two_processes_evaluate_every_example_once_and_to_the_same_loss(whole, tmp_path):
    folder, options = whole
    changes = {"processes": 2, "eval_max_tokens": 29}
    assert run_ranks(fit_and_save, 2, tmp_path, {**options, **changes}) == [0, 0]
    one, two = (
        [event for event in read_log(path / "metrics.jsonl") if event["event"] == "evaluation"]
        for path in (folder, tmp_path)
    )
    assert [event["loss"] for event in one] == pytest.approx([event["loss"] for event in two], rel=TOLERANCE)
    rows = [json.loads(line) for line in (tmp_path / "predictions.validation.jsonl").open()]
    assert [row["id"] for row in rows] == [f"2-{number}" for number in range(13)]


def evaluate_sizes(folder, processes):
    """Splits of several sizes, fewer rows than ranks among them, with one untrained model."""
    training = build(folder, StopRequest(), dropout=0.0, processes=processes, eval_max_tokens=29)
    found = {}
    for size in (1, 7, 13, 53):
        evaluation = training.score("test", prepared(training.task, rows(size, 5)))
        found[size] = [evaluation.ids, evaluation.predictions, evaluation.scores, evaluation.loss]
    if training.accelerator.is_main_process:
        (folder / "found.json").write_text(json.dumps(found))


def test_a_split_of_any_size_is_predicted_once_by_two_processes_as_by_one(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, processes in ((one, 1), (two, 2)):
        folder.mkdir()
        assert run_ranks(evaluate_sizes, processes, folder, processes) == [0] * processes
    first, second = (json.loads((folder / "found.json").read_text()) for folder in (one, two))
    for size, (ids, predictions, scores, loss) in first.items():
        assert ids == [f"5-{number}" for number in range(int(size))]
        assert second[size][:3] == [ids, predictions, scores]
        assert second[size][3] == pytest.approx(loss, rel=TOLERANCE)


def test_the_step_loss_is_the_mean_over_target_tokens(tmp_path):
    """By hand: sum of -log p over targets, divided by their number, at the initial weights."""
    training = fit(tmp_path, architecture="bert", dropout=0.0, max_steps=1, max_tokens=17)
    model = tiny_model("bert", 0.0).eval()
    train = prepared(ToyTagging(), rows(21, 1))
    total, count = 0.0, 0
    for index in training.plan.step(0).examples:
        feature = train.features[index]
        logits = model(input_ids=torch.tensor([feature["input_ids"]])).logits[0].log_softmax(-1)
        for row, label in zip(logits, feature["labels"]):
            if label >= 0:
                total, count = total - row[label].item(), count + 1
    assert losses(tmp_path)[0] == pytest.approx(total / count, rel=TOLERANCE)
