"""A finished run predicts and scores, or is refused; inspect prints what training would see."""

from __future__ import annotations

import gc
import io
import json
import shutil
import sys
import weakref
from pathlib import Path

import pytest
import torch
import yaml

from pipelines.actions.inspect import padding, saved_bytes
from pipelines.cli.main import main
from pipelines.runs.load import load_run_model
from pipelines.storage.sealed import sealed

SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 29}
TASKS = {
    "question_answering": {"max_len": 64, "overlap": 8, "unanswerable": True},
    "text_classification": {"max_len": 32},
    "ner": {"max_len": 24, "overlap": 4},
}
OPTIONS = {"question_answering": {"unanswerable": 0.3}}


def write_config(folder: Path, task: str) -> Path:
    settings = {
        "task": {"name": task, **TASKS[task]},
        "data": {
            "generated": {
                "name": task, "train": 96, "validation": 31, "test": 29, "options": OPTIONS.get(task, {}),
            }
        },
        "model": {"architecture": "bert", "family": "encoder", "vocab_size": 320, "config": SIZES},
        "attention": ["gate"],
        "num_epochs": 2,
        "learning_rate": 3e-3,
        "device": "cpu",
    }  # fmt: skip
    path = folder / f"{task}.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """A finished run of each task."""
    folder = tmp_path_factory.mktemp("runs")
    torch.set_num_threads(1)
    for task in TASKS:
        assert main(["train", str(write_config(folder, task)), "--out", str(folder / task)]) == 0
    return {task: folder / task for task in TASKS}


def manifest(run: Path) -> dict:
    return json.loads((run / "manifest.json").read_text())


def predict(run: Path, lines: str, monkeypatch, capsys) -> tuple[int, list[dict], str]:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    status = main(["predict", str(run), "--input", "-"])
    said = capsys.readouterr()
    return status, [json.loads(line) for line in said.out.splitlines()], said.err


# ---- evaluate
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_finished_run_scores_what_it_said_of_itself(runs, task, split, tmp_path, capsys):
    kept = tmp_path / "predictions.jsonl"
    assert main(["evaluate", str(runs[task]), "--split", split, "--predictions", str(kept)]) == 0
    said = capsys.readouterr().out
    for name, value in manifest(runs[task])["scores"][split].items():
        assert f"{name} {value:.2f}" in said
    assert said.count("as the run reported") == len(manifest(runs[task])["metrics"])
    ours, theirs = (
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in (kept, runs[task] / f"predictions.{split}.jsonl")
    )
    for one, other in zip(ours, theirs, strict=True):
        assert one["id"] == other["id"]
        assert one["reference"] == other["reference"]
        if task != "question_answering":
            assert one["prediction"] == other["prediction"]


def test_another_file_is_scored_with_the_threshold_of_the_run(runs, tmp_path, capsys):
    run = runs["question_answering"]
    threshold = manifest(run)["task_state"]["null_threshold"]
    assert load_run_model(run).task.state() == {"null_threshold": threshold}
    rows = [
        {"question": "who sang ?", "context": "Anna sang .", "answers": ["Anna"], "answer_starts": [0]},
        {"question": "who ran ?", "context": "Anna sang .", "answers": [], "answer_starts": []},
    ]
    file = tmp_path / "more.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["evaluate", str(run), "--data", str(file)]) == 2  # names of the corpus, not of a file
    assert "column 'answers' has no fields, so no 'answers.text'" in capsys.readouterr().err
    rows = [
        {**row, "answers": {"text": row["answers"], "answer_start": row["answer_starts"]}} for row in rows
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["evaluate", str(run), "--data", str(file)]) == 0
    assert "2 examples" in capsys.readouterr().out
    assert manifest(run)["task_state"]["null_threshold"] == threshold


# ---- predict
def test_entities_come_with_their_characters(runs, monkeypatch, capsys):
    lines = (
        "the lawyers of Jordan slept .\n\n"
        + json.dumps({"id": "x", "tokens": ["Mrs", "Kent", "wept"]})
        + "\n"
    )
    status, answers, _ = predict(runs["ner"], lines, monkeypatch, capsys)
    assert status == 0
    assert [answer["id"] for answer in answers] == ["1", "x"]
    assert answers[1]["text"] == "Mrs Kent wept"
    for answer in answers:
        assert len(answer["tokens"]) == len(answer["tags"])
        for entity in answer["entities"]:
            assert answer["text"][entity["start"] : entity["end"]] == entity["text"]


def test_ner_gives_the_entities_of_its_tags(runs):
    task = load_run_model(runs["ner"]).task
    example = {"id": "1", **task.from_text("“Mrs  Kent” of St. John's \U0001f600 wept")}
    labels = task.state()["labels"]
    wanted = {"Mrs": "B-PER", "Kent": "I-PER", "John's": "B-LOC"}
    numbers = [labels.index(wanted.get(token, "O")) for token in example["tokens"]]
    answer = task.answer(example, [{"words": list(range(len(numbers))), "labels": numbers}])
    assert [(e["type"], e["text"]) for e in answer["entities"]] == [("PER", "Mrs  Kent"), ("LOC", "John's")]
    assert all(answer["text"][e["start"] : e["end"]] == e["text"] for e in answer["entities"])


def test_labels_come_with_probabilities(runs, monkeypatch, capsys):
    status, answers, _ = predict(runs["text_classification"], "i call it good .\n", monkeypatch, capsys)
    assert status == 0
    assert sum(answers[0]["probabilities"].values()) == pytest.approx(1)
    assert answers[0]["probability"] == max(answers[0]["probabilities"].values())


def test_answers_come_with_scores_in_the_order_of_the_lines(runs, monkeypatch, capsys):
    context = "Zoë Andre\u0301 sang in Rome . Hugo danced in Oslo ."
    rows = [
        {"id": name, "question": f"who {verb} ?", "context": context}
        for name, verb in (("b", "sang"), ("a", "ran"))
    ]
    status, answers, _ = predict(
        runs["question_answering"], "\n".join(map(json.dumps, rows)), monkeypatch, capsys
    )
    assert status == 0
    assert [answer["id"] for answer in answers] == ["b", "a"]
    for answer in answers:
        assert 0 <= answer["answer"]["score"] <= 1
        scores = [one["score"] for one in answer["n_best"]]
        assert scores == sorted(scores, reverse=True)
        assert all(context[one["start"] : one["end"]] == one["text"] for one in answer["n_best"])
        is_none = answer["null_margin"] > manifest(runs["question_answering"])["task_state"]["null_threshold"]
        assert (answer["answer"]["text"] == "") == is_none


def test_a_table_file_is_read_by_the_columns_of_the_run_and_ids_may_repeat(runs, tmp_path):
    file, out = tmp_path / "in.csv", tmp_path / "out.jsonl"
    file.write_text("id,question,context\n7,who ?,Anna sang .\n7,where ?,Anna sang in Rome .\n")
    assert main(["predict", str(runs["question_answering"]), "--input", str(file), "--out", str(out)]) == 0
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == ["7", "7"]


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("\n \n", "holds no input"),
        ('{"question": "who ?"}\n', "row 1: has no 'context'"),
        ('\n{"question": "who ?", "context": 3}\n', "row 1 (line 2): has a context that is not text: 3"),
        ('{"question": "who ?"\n', "row 1: is not valid JSON"),
        ("who ?\n", "plain text is not enough for this task; give JSON lines with question and context"),
    ],
)
def test_input_that_cannot_be_predicted_is_told_with_its_row_before_anything_is(
    runs, lines, sentence, monkeypatch, capsys
):
    status, answers, said = predict(runs["question_answering"], lines, monkeypatch, capsys)
    assert (status, answers) == (2, [])
    assert sentence in said


# ---- runs that cannot be loaded
def test_a_run_without_a_whole_model_is_refused(runs, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(runs["text_classification"], copy)

    def refusal() -> str:
        assert main(["predict", str(copy), "--input", "-"]) == 2
        return capsys.readouterr().err

    weights = copy / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert "has changed since the run finished" in refusal()
    shutil.rmtree(copy / "model")
    assert "the model of this run was not kept" in refusal()
    (copy / "manifest.json").write_text(
        json.dumps(sealed(manifest(runs["text_classification"]) | {"status": "diverged"}))
    )
    assert "no model to predict with: it diverged" in refusal()
    (copy / "manifest.json").unlink()
    assert "is not finished" in refusal()
    shutil.rmtree(copy)
    assert "there is no such folder" in refusal()
    copy.write_text("task: ner")
    assert "is a file, not a folder" in refusal()


def test_the_loaded_model_has_the_trained_weights_and_the_attention_of_the_run(runs):
    import custom_attention

    finished = load_run_model(runs["ner"])
    variant = custom_attention.variant_parameters(finished.model)
    assert sum(p.numel() for p in variant.values()) == manifest(runs["ner"])["num_variant_parameters"] > 0
    assert any(parameter.abs().max() > 0 for parameter in variant.values())  # they start at zero
    assert not finished.model.training


# ---- inspect
@pytest.mark.parametrize("task", TASKS)
def test_inspect_tells_what_the_run_then_did(runs, task, capsys):
    assert main(["inspect", str(runs[task].parent / f"{task}.yaml"), "--examples", "2"]) == 0
    said, found = capsys.readouterr().out, manifest(runs[task])
    assert f"{found['num_steps']} steps of 16 examples" in said
    assert f"{found['num_parameters']:,} parameters, {found['num_variant_parameters']:,} of them" in said
    for split, count in found["data"]["num_features"].items():
        assert f"{split}: {found['data']['num_examples'][split]} examples in {count} inputs" in said
    assert "% of the tokens are padding" in said
    assert said.count(" tokens\n") >= 2
    assert {"question_answering": "-> ", "text_classification": "-> ", "ner": "/O"}[task] in said


def test_padding_by_hand():
    import numpy as np

    share, widest = padding([(0, 1), (), (2,)], np.array([4, 2, 5]))
    assert (share, widest) == (1 - 11 / 13, 8)


def test_memory_of_the_backward_pass_is_that_of_its_saved_tensors():
    class Squares:
        def collate(self, features):
            return torch.ones(len(features), 100, requires_grad=True)

        def loss(self, model, batch):
            return (model(batch) ** 2).sum()

    linear = torch.nn.Linear(100, 50)
    # the input (n x 100) and the output (n x 50), float32; the weight is no news
    assert saved_bytes(Squares(), linear, [{}] * 7) == 7 * (100 + 50) * 4


def test_nothing_is_kept_of_what_was_measured_for_the_backward_pass():
    outputs = []

    class Weights:
        def collate(self, features):
            return torch.ones(len(features), 5)

        def loss(self, model, batch):
            weights = torch.softmax(model(batch), -1)
            outputs.append(weakref.ref(weights))
            return weights.sum()

    assert saved_bytes(Weights(), torch.nn.Linear(5, 3), [{}] * 2) == 2 * (5 + 3) * 4
    gc.collect()
    assert outputs[0]() is None


def test_an_ablation_is_no_run_to_inspect(capsys):
    assert main(["inspect", "configs/quickstart.yaml"]) == 2
    assert "is an ablation" in capsys.readouterr().err
