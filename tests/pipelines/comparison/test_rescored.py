"""The stored predictions of a run give the statistics that it has stored, whatever their form."""

from __future__ import annotations

import json

import pytest

from pipelines.cli.main import main
from pipelines.comparison.rescored import differences
from pipelines.storage import reading

SIZES = "{hidden_size: 8, num_hidden_layers: 1, num_attention_heads: 1, intermediate_size: 8}"


@pytest.fixture(scope="module", params=["single", "multi_label", "regression"])
def run(request, tmp_path_factory):
    """A finished run of text classification; statistics of its f1_macro are sparse."""
    folder = tmp_path_factory.mktemp(request.param)
    labels = {"single": ["up", "down", "flat"], "multi_label": [["up"], [], ["up", "flat"]]}
    kinds = labels.get(request.param, [0.5, 2.25, -1.0])
    rows = [{"text": f"{'abc'[n % 3]} word {n}", "label": kinds[n % 3]} for n in range(24)]
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = [
        f"task={{name: text_classification, max_len: 16, kind: {request.param}}}",
        f"data.train={folder / 't.jsonl'}",
        "data.split={validation: 0.25, test: 0.25, seed: 1}",
        f"model={{architecture: bert, family: encoder, vocab_size: 300, config: {SIZES}}}",
        "max_steps=1",
        "device=cpu",
    ]
    assert main(["train", *arguments, "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_every_statistic_is_found_again(run):
    assert not list(differences(run, reading.json_object(run / "manifest.json", "")))


def test_a_changed_prediction_is_named(run):
    path = run / "predictions.test.jsonl"
    before = path.read_text()
    lines = [json.loads(line) for line in before.splitlines()]
    other = {"up": "down", "down": "flat", "flat": "up"}
    was = lines[1]["prediction"]
    lines[1]["prediction"] = other[was] if isinstance(was, str) else wrong(was)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    try:
        found = list(differences(run, reading.json_object(run / "manifest.json", "")))
    finally:
        path.write_text(before)
    assert found
    assert all(name == path.name and "gives other statistics" in what for name, what in found)


def wrong(prediction):
    return ["flat"] if prediction == [] else [] if isinstance(prediction, list) else prediction * 2 + 1


def test_a_prediction_of_another_form_is_named_with_its_line(run):
    path = run / "predictions.test.jsonl"
    before = path.read_text()
    lines = [json.loads(line) for line in before.splitlines()]
    lines[2]["prediction"] = {"none": "of these"}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    try:
        found = list(differences(run, reading.json_object(run / "manifest.json", "")))
    finally:
        path.write_text(before)
    assert found
    assert all(name == path.name and "line 3" in what for name, what in found)
