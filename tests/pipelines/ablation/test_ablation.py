"""The whole pipeline on a tiny ablation: paired, resumable, never twice, never the same folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from pipelines.ablation.folder import open_ablation
from pipelines.ablation.grid import plan_cells
from pipelines.actions.ablate import delete_models
from pipelines.cli.main import main
from pipelines.config.load import load_ablation
from pipelines.storage.names import SEAL
from pipelines.storage.run_folder import read_log
from tests.pipelines import stored_ablation
from tests.pipelines.waiting import SECONDS, wait_for

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


def trajectory(folder: Path) -> tuple:
    """All that a run came to, to the last bit; the scores of a toy model alone are all 0."""
    events = read_log(folder / "metrics.jsonl")
    log = [{key: value for key, value in event.items() if key != "seconds"} for event in events]
    return log, (folder / "predictions.test.jsonl").read_bytes()


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


def assert_same_runs(file: Path, one: Path, other: Path) -> None:
    """Two folders of one ablation hold the same results, made by the same runs."""
    assert numbers(one) == numbers(other)
    first, second = folders(file, one), folders(file, other)
    for run, folder in first.items():
        assert trajectory(folder) == trajectory(second[run]), run


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
    told = capfd.readouterr()
    assert "3 ended before" in told.err
    assert "3 runs of stock had been made" in " ".join(told.out.split())


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
    assert trajectory(runs["stock", 1]) == trajectory(runs["again", 1])
    [row] = [r for r in json.loads((out / "results.json").read_text())["comparisons"] if r["primary"]]
    assert row["difference"] == 0
    assert row["runs"]["baseline"] != row["runs"]["arm"]


def test_a_frozen_neutral_variant_trains_as_stock_does(tmp_path):
    """To the bit where it only scales; a query that a gate reads has its gradient summed in another order."""
    names = ["temperature", "gate"]
    frozen = {name: {"attention": [name], "set": {"train_variant": False}} for name in names}
    file, out = write(tmp_path, arms={"stock": [], **frozen}, seeds=[4]), tmp_path / "runs" / "frozen"
    assert main(["ablate", str(file), "--out", str(out), "--jobs", "2"]) == 0
    runs = folders(file, out)
    stock, temperature, gate = (trajectory(runs[arm, 4]) for arm in ("stock", *names))
    assert temperature == stock
    assert gate[1] == stock[1]
    for one, other in zip(gate[0], stock[0], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-6)


def test_killed_three_times_it_ends_with_the_numbers_of_an_uninterrupted_one(finished, tmp_path):
    file, out = finished
    again = tmp_path / "runs" / "toy"
    cells = again.parent / "cells"
    manifests = lambda: list(cells.glob("*/manifest.json"))
    for happened in (
        lambda: list(cells.glob(f"*/checkpoints/*/{SEAL}")) or manifests(),
        lambda: len(manifests()) >= 1,
        lambda: len(manifests()) >= 3,
    ):
        process = start(file, again)
        wait_for(happened, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    process = start(file, again)
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    assert_same_runs(file, again, out)


def test_asked_to_stop_it_exits_with_75_and_resumes(finished, tmp_path):
    file, out = finished
    again = tmp_path / "runs" / "toy"
    process = start(file, again)
    wait_for(lambda: list(again.parent.glob("cells/*/metrics.jsonl")), process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 75, err
    assert "start the same command again" in err
    process = start(file, again)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert_same_runs(file, again, out)


def test_what_is_registered_first_stays_and_a_change_is_said(finished):
    file, out = finished
    changed = write(file.parent / "changed", margin={"f1": 2.0})
    assert main(["ablate", str(changed), "--out", str(out)]) == 0
    results = json.loads((out / "results.json").read_text())
    assert results["registration"]["declared"]["margin"] == {"f1": 0.5}
    assert results["registration"]["changed_afterwards"] == ["margin.f1: 0.5 -> 2"]
    assert {row["verdict"].partition(", ")[2] for row in results["comparisons"] if row["primary"]} == {
        "changed after registration"
    }
    assert main(["ablate", str(file), "--out", str(out)]) == 0  # as the other tests expect it


def test_a_folder_holds_one_run_and_another_is_refused_by_the_field_that_differs(tmp_path, capsys):
    run = tmp_path / "run.yaml"
    run.write_text(yaml.safe_dump(TINY["cells"]["toy"][0] | {"max_steps": 2}))
    out = str(tmp_path / "one")
    assert main(["train", str(run), "--out", out]) == 0
    capsys.readouterr()
    assert main(["train", str(run), "learning_rate=1e-3", "--out", out]) == 2
    assert "config.learning_rate: 0.002 -> 0.001" in capsys.readouterr().err


def test_two_at_once_on_one_folder_share_the_runs_and_never_work_on_the_same_one(finished, tmp_path):
    file, out = finished
    again = tmp_path / "runs" / "toy"
    both = [start(file, again) for _ in range(2)]
    ends = [process.communicate(timeout=SECONDS) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert_same_runs(file, again, out)
    for folder in folders(file, again).values():  # each was begun once and never gone on with
        assert (folder / "log.txt").read_text().count("the swap is exact") == 1


@pytest.mark.parametrize("keep", ["model", "best_seed", "none"])
def test_keep_decides_whose_weights_stay(tmp_path, keep):
    stored = open_ablation(stored_ablation.write(tmp_path, keep=keep))
    delete_models(stored.config, stored.cells)
    kept = {(cell.arm, cell.seed) for cell in stored.cells if (cell.folder / "model").exists()}
    best = {}
    for cell in stored.cells:
        reached = manifest(cell.folder)["scores"]["validation"]["f1"]
        best[cell.arm] = max(best.get(cell.arm, (0, 0)), (reached, cell.seed))
    expected = {
        "model": {(cell.arm, cell.seed) for cell in stored.cells},
        "best_seed": {(arm, seed) for arm, (_, seed) in best.items()},
        "none": set(),
    }
    assert kept == expected[keep]
    assert all((cell.folder / "statistics.test.parquet").exists() for cell in stored.cells)


def test_a_finished_run_keeps_no_checkpoint_and_one_arm_one_model(finished):
    file, out = finished
    runs = folders(file, out)
    assert not any((folder / "checkpoints").exists() for folder in runs.values())
    assert Counter(arm for (arm, _), folder in runs.items() if (folder / "model").exists()) == {
        "stock": 1,
        "gate": 1,
    }


def test_texts_that_may_be_published_stand_beside_their_predictions_and_change_no_run(tmp_path):
    run = tmp_path / "run.yaml"
    run.write_text(yaml.safe_dump(TINY["cells"]["toy"][0] | {"max_steps": 1}))
    lines, hashes = {}, set()
    for allowed in ("false", "true"):
        out = tmp_path / allowed
        assert main(["train", str(run), f"data.publish_text={allowed}", "--out", str(out)]) == 0
        lines[allowed] = [json.loads(line) for line in trajectory(out)[1].decode().splitlines()]
        hashes.add(manifest(out)["run_hash"])
    assert len(hashes) == 1
    assert all(len(line["input"]) == len(line["reference"]) for line in lines["true"])
    assert [{k: v for k, v in line.items() if k != "input"} for line in lines["true"]] == lines["false"]
