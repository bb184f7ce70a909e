"""Runs that score no better than what needs no model are named: by train, in results.json, in the report."""

from __future__ import annotations

import json

import pytest
import yaml

from pipelines.cli.main import main
from pipelines.comparison.results import ArmSummary, to_json
from pipelines.comparison.without_model import note
from tests.pipelines.tasks.writing import SIZES


def manifest(score: float, metric: str = "f1", higher: bool = True, **baselines: float) -> dict:
    return {
        "primary": metric,
        "scores": {"validation": {metric: score, "other": 0.0}},
        "metrics": {metric: {"higher_is_better": higher}},
        "baselines": {
            "split": "validation",
            "num_examples": 1000,
            "scores": {name.replace("_", " "): {metric: found} for name, found in baselines.items()},
        },
    }


@pytest.mark.parametrize(
    ("score", "higher", "is_behind"),
    [(3.0, True, True), (40.0, True, True), (40.1, True, False), (39.0, False, True), (9.9, False, False)],
)
def test_the_best_baseline_is_what_counts(score, higher, is_behind):
    said = note([manifest(score, "m", higher, copied=10.0, most_frequent=40.0)])
    assert (said is not None) == is_behind
    best = "most frequent: 40.00" if higher else "copied: 10.00"
    if said:
        assert said == (
            f"validation m {score:.2f} is no better than without a model ({best} on 1,000 examples)"
        )


def test_the_runs_of_an_arm_are_counted():
    runs = [manifest(score, copied=10.0) for score in (50.0, 3.0, 4.0)]
    assert note(runs).startswith("2 of 3 runs: validation f1 3.00 is no better")
    assert note(runs[:1]) is None


def test_a_run_of_an_older_version_is_not_judged():
    old = {"primary": "f1", "scores": {"validation": {"f1": 0.0}}, "metrics": {}}
    assert note([old]) is None


def test_results_leave_the_note_out_where_there_is_none():
    assert "without_model" not in to_json(ArmSummary(num_runs=2))
    assert to_json(ArmSummary(num_runs=2, without_model="behind"))["without_model"] == "behind"


def test_a_run_that_learned_nothing_is_told_by_train_and_by_the_report(tmp_path, capsys):
    architecture, sizes = SIZES["encoder"]
    settings = {
        "task": "ner",
        "data": {"generated": {"name": "ner", "train": 60, "validation": 20}},
        "model": {"architecture": architecture, "family": "encoder", "vocab_size": 320, "config": sizes},
        "max_steps": 1,
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    ablation = {"cells": {"a": "run.yaml"}, "arms": {"stock": [], "gate": ["gate"]}, "seeds": [1]}
    (tmp_path / "ablation.yaml").write_text(yaml.safe_dump(ablation))
    assert main(["train", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "one")]) == 0
    said = capsys.readouterr().err
    stored = json.loads((tmp_path / "one" / "manifest.json").read_text())
    (name, scores), (floor, nothing) = stored["baselines"]["scores"].items()
    assert (floor, nothing["f1"]) == ("no entity", 0.0)  # what a run that collapses falls to
    assert (name, stored["baselines"]["num_examples"]) == ("most frequent tag of each word", 20)
    f1 = stored["scores"]["validation"]["f1"]
    line = f"note: validation f1 {f1:.2f} is no better than without a model ({name}: {scores['f1']:.2f} on 20"
    assert line in said
    assert said.index("note: ") > said.index("validation: ")
    assert main(["ablate", str(tmp_path / "ablation.yaml"), "--out", str(tmp_path / "two")]) == 0
    results = json.loads((tmp_path / "two" / "results.json").read_text())
    for arm in ("stock", "gate"):
        clause = results["arms"]["a"][arm]["without_model"]
        assert "is no better than without a model" in clause
        assert f"{arm} on a: {clause}" in (tmp_path / "two" / "report.md").read_text().replace("\\", "")
