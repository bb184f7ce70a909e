"""An ablation that attnlab 0.1 (8719fff) finished opens, verifies, reports and predicts as it did then."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from pipelines.cli.main import main
from pipelines.comparison.results import JUDGED

ARCHIVE = Path(__file__).with_name("finished_at_0_1.tar.xz")


@pytest.fixture
def ablation(tmp_path) -> Path:
    """The folder of the ablation, beside it the runs: 2 arms x 3 seeds of a tiny BERT, two with a model."""
    safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # not in the first 3.11
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, **safely)
    return tmp_path / "runs" / "small"


@pytest.fixture
def models(ablation) -> list[Path]:
    """The runs whose model was kept: the best seed of each arm."""
    return sorted(path.parent for path in (ablation.parent / "cells").glob("*/model"))


def test_it_verifies_but_for_the_rules_of_its_verdicts(ablation, capsys):
    assert main(["verify", str(ablation)]) == 1
    shown = capsys.readouterr()
    assert "other rules gave its p values, intervals and verdicts, so they are not compared" in shown.out
    assert "1 difference" in shown.err
    assert main(["report", str(ablation)]) == 0
    assert main(["verify", str(ablation)]) == 0, capsys.readouterr()


def test_its_report_has_the_same_numbers(ablation):
    before = json.loads((ablation / "results.json").read_text())
    assert main(["report", str(ablation)]) == 0
    after = json.loads((ablation / "results.json").read_text())
    for row, old in zip(after["comparisons"], before["comparisons"], strict=True):
        assert row["verdict"] == old["verdict"]
        assert {name: row[name] for name in old if name not in JUDGED} == {
            name: old[name] for name in old if name not in JUDGED
        }
    assert after["arms"] == before["arms"]
    assert after["failures"] == before["failures"] == []


def test_its_status_is_finished(ablation, capsys):
    assert main(["status", str(ablation)]) == 0
    assert "6 finished" in capsys.readouterr().out


def test_a_changed_prediction_is_still_found(ablation, capsys):
    [first, *_] = sorted((ablation.parent / "cells").glob("*/predictions.test.jsonl"))
    first.write_text(first.read_text().replace("PER", "LOC", 1))
    assert main(["verify", str(ablation)]) == 1
    assert first.name in capsys.readouterr().out


def test_its_models_predict(models, tmp_path, capsys):
    lines = tmp_path / "lines.txt"
    lines.write_text("the miller met someone\n")
    assert len(models) == 2
    for model in models:
        assert main(["predict", str(model), "--input", str(lines)]) == 0
        assert json.loads(capsys.readouterr().out)


def test_its_runs_are_pushed(models, capsys):
    for model in models:
        assert main(["push", str(model), "org/name", "--dry-run"]) == 0, capsys.readouterr()
        assert "loaded in a fresh process" in capsys.readouterr().out
