"""The whole pipeline on a tiny ablation: paired, resumable, never twice, never the same folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from pipelines.cli import main
from pipelines.config import load_ablation
from pipelines.grid import plan_cells

TINY = {
    "cells": {
        "toy": [
            {
                "task": "ner",
                "data": {"generated": {"name": "ner", "train": 61, "validation": 23, "test": 29}},
                "model": {
                    "architecture": "bert",
                    "family": "encoder",
                    "vocab_size": 400,
                    "config": {
                        "hidden_size": 24,
                        "num_hidden_layers": 2,
                        "num_attention_heads": 3,
                        "intermediate_size": 31,
                    },
                },
                "batch_size": 8,
                "num_epochs": 2,
                "learning_rate": 2e-3,
                "checkpoint_every_steps": 3,
            }
        ]
    },
    "arms": {"stock": [], "gate": ["gate"]},
    "seeds": [1, 2, 3],
    "primary": {"ner": "f1"},
    "margin": {"f1": 0.5},
}


def write(folder: Path, **changes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "ablation.yaml"
    path.write_text(yaml.safe_dump(TINY | changes))
    return path


def folders(file: Path, out: Path) -> dict[tuple[str, int], Path]:
    return {(cell.arm, cell.seed): cell.folder for cell in plan_cells(load_ablation(str(file)), out)}


def manifest(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def predictions(folder: Path) -> bytes:
    return (folder / "predictions.test.jsonl").read_bytes()


def start(file: Path, out: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "pipelines", "ablate", str(file), "--out", str(out), "--jobs", "2"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stderr=pipe, stdout=pipe, text=True, start_new_session=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One ablation, run to its end."""
    folder = tmp_path_factory.mktemp("finished")
    file, out = write(folder), folder / "runs" / "toy"
    assert main(["ablate", str(file), "--out", str(out), "--jobs", "2"]) == 0
    return file, out


def numbers(out: Path):
    """The results without what may differ from run to run: times, memory, folders."""
    results = json.loads((out / "results.json").read_text())
    keep = ("arm", "metric", "baseline_scores", "arm_scores", "difference", "se", "p", "verdict")
    return [{name: row[name] for name in keep} for row in results["comparisons"]]


def test_it_reports_a_verdict_for_the_arm(finished):
    _, out = finished
    rows = [row for row in json.loads((out / "results.json").read_text())["comparisons"] if row["primary"]]
    assert [row["arm"] for row in rows] == ["gate"]
    assert len(rows[0]["arm_scores"]) == 3
    for name in ("report.html", "report.md", "registration.json", "ablation.yaml"):
        assert (out / name).stat().st_size > 100


def test_started_again_it_runs_nothing(finished, capfd):
    file, out = finished
    before = {path: path.stat().st_mtime_ns for path in (out.parent / "cells").rglob("*") if path.is_file()}
    assert main(["ablate", str(file), "--out", str(out)]) == 0
    assert "6 ended before" in capfd.readouterr().err
    assert before == {p: p.stat().st_mtime_ns for p in (out.parent / "cells").rglob("*") if p.is_file()}


def test_another_ablation_beside_it_shares_the_stock_runs(finished, capfd):
    file, out = finished
    other = write(file.parent / "other", arms={"stock": [], "temperature": ["temperature"]})
    assert main(["ablate", str(other), "--out", str(out.parent / "other")]) == 0
    assert "3 ended before" in capfd.readouterr().err


def test_arms_start_from_the_same_weights_and_see_the_same_batches(finished):
    file, out = finished
    runs = folders(file, out)
    for seed in (1, 2, 3):
        stock, gate = (
            json.loads((runs[arm, seed] / "manifest.json").read_text()) for arm in ("stock", "gate")
        )
        assert stock["batches_hash"] == gate["batches_hash"]
        assert gate["proof"]["max_difference"] == 0.0
        assert gate["num_variant_parameters"] > 0
        assert gate["num_parameters"] - gate["num_variant_parameters"] == stock["num_parameters"]


def test_two_names_for_one_run_are_no_comparison(tmp_path, capsys):
    file = write(tmp_path, arms={"stock": [], "again": []})
    assert main(["ablate", str(file), "--out", str(tmp_path / "out")]) == 2
    assert "are the same run" in capsys.readouterr().err


def test_a_second_stock_arm_really_run_again_predicts_the_same(tmp_path):
    file, out = write(tmp_path, arms={"stock": [], "again": []}, seeds=[1]), tmp_path / "runs" / "aa"
    assert main(["ablate", str(file), "--out", str(out), "--fresh", "--jobs", "2"]) == 0
    runs = folders(file, out)
    assert runs["stock", 1] != runs["again", 1]
    assert predictions(runs["stock", 1]) == predictions(runs["again", 1])
    [row] = [r for r in json.loads((out / "results.json").read_text())["comparisons"] if r["primary"]]
    assert row["difference"] == 0
    assert row["runs"]["baseline"] != row["runs"]["arm"]


def test_a_frozen_neutral_variant_trains_to_the_bits_of_stock(tmp_path):
    arms = {"stock": [], "frozen": {"attention": ["gate", "temperature"], "set": {"train_variant": False}}}
    file, out = write(tmp_path, arms=arms, seeds=[4]), tmp_path / "runs" / "frozen"
    assert main(["ablate", str(file), "--out", str(out), "--jobs", "2"]) == 0
    runs = folders(file, out)
    assert predictions(runs["stock", 4]) == predictions(runs["frozen", 4])


def test_killed_three_times_it_ends_with_the_numbers_of_an_uninterrupted_one(finished, tmp_path):
    file, out = finished
    again = tmp_path / "runs" / "toy"
    for seconds in (4.0, 6.0, 8.0):
        process = start(file, again)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    process = start(file, again)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert numbers(again) == numbers(out)


def test_asked_to_stop_it_leaves_with_75_and_goes_on(finished, tmp_path):
    file, out = finished
    again = tmp_path / "runs" / "toy"
    process = start(file, again)
    time.sleep(5.0)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert "start the same command again" in err
    process = start(file, again)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert numbers(again) == numbers(out)


def test_editing_a_variant_makes_other_runs(finished, tmp_path, monkeypatch):
    """The source of a variant is part of its runs' identity; the stock runs are not touched by it."""
    from pipelines import catalog, identity

    file, out = finished
    before = folders(file, out)
    edited = tmp_path / "gate.py"
    entry = catalog.find(catalog.VARIANT, "gate")
    edited.write_text(entry.module.file.read_text() + "\n# another idea\n")
    find = catalog.find

    def find_edited(kind, name):
        found = find(kind, name)
        if name == "gate":
            module = type(found.module)(found.module.name, edited, found.module.tree)
            return type(found)(**{**vars(found), "module": module})
        return found

    monkeypatch.setattr(identity.catalog, "find", find_edited)
    after = folders(file, out)
    for seed in (1, 2, 3):
        assert after["stock", seed] == before["stock", seed]
        assert after["gate", seed] != before["gate", seed]


def test_what_is_registered_first_stays_and_a_change_is_said(finished):
    file, out = finished
    changed = write(file.parent / "changed", margin={"f1": 2.0})
    assert main(["ablate", str(changed), "--out", str(out)]) == 0
    results = json.loads((out / "results.json").read_text())
    assert results["registration"]["declared"]["margin"] == {"f1": 0.5}
    assert results["registration"]["changed_afterwards"] == ["margin"]


def test_a_folder_holds_one_run_and_another_is_refused_by_the_field_that_differs(tmp_path, capsys):
    run = tmp_path / "run.yaml"
    run.write_text(yaml.safe_dump(TINY["cells"]["toy"][0] | {"max_steps": 2}))
    out = str(tmp_path / "one")
    assert main(["train", str(run), "--out", out]) == 0
    capsys.readouterr()
    assert main(["train", str(run), "learning_rate=1e-3", "--out", out]) == 2
    assert "config.learning_rate: 0.002 -> 0.001" in capsys.readouterr().err
