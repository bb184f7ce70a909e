"""What `attnlab compare` writes is verified, noted in the ledger, and called what it is."""

from __future__ import annotations

import json

import pytest

from pipelines.actions.compare import Request, compare_command
from pipelines.actions.verify import verify_command
from pipelines.cli.main import main
from pipelines.errors import RunFailed
from tests.pipelines import stored_ablation as made
from tests.pipelines.predictions import files


@pytest.fixture
def folder(tmp_path):
    """A comparison of two scores over three seeds."""
    for side, gain in (("base", 0.0), ("new", 0.02)):
        for seed in (1, 2, 3):
            rows = [
                {"id": f"e{n}", "f": (n * seed) % 7 / 10 + gain * (n % 3), "g": n / 100} for n in range(40)
            ]
            files.json_lines(tmp_path / f"{side}-{seed}.jsonl", rows)
    sides = [str(tmp_path / f"{name}-*.jsonl") for name in ("base", "new")]
    compare_command(Request(sides=sides, scores=["f", "g"], margin=0.1), str(tmp_path / "runs" / "both"))
    return tmp_path / "runs" / "both"


def test_it_is_verified_and_every_change_is_named(folder, capsys):
    assert verify_command(str(folder)).differences == []
    results = json.loads((folder / "results.json").read_text())
    assert [row["metric"] for row in results["comparisons"]] == ["f", "g"]
    assert [len(files) for files in results["sources"].values()] == [3, 3]
    with open(folder.parents[1] / "new-2.jsonl", "a") as file:
        file.write("\n")
    predictions = folder / "sides" / "1-3" / "predictions.test.jsonl"
    predictions.write_text(predictions.read_text().replace('"f": 0.3', '"f": 0.9', 1))
    results["comparisons"][0]["verdict"] = "better"
    (folder / "results.json").write_text(json.dumps(results))
    capsys.readouterr()
    with pytest.raises(RunFailed, match="differences"):
        verify_command(str(folder))
    said = capsys.readouterr().out
    assert "new-2.jsonl: has changed since it was compared" in said
    assert "new/3: predictions.test.jsonl: has changed since the run finished" in said
    assert "verdict: 'better' ->" in said
    assert "report.md: is not what results.json is rendered as" in said


def test_the_ledger_counts_it_with_the_ablations_of_its_test_set(tmp_path):
    ablation = made.reported(tmp_path)
    sides = [f"{arm}={made.run_folder(ablation, arm, 1)}" for arm in ("stock", "gate")]
    for arm in ("stock", "gate"):
        record = made.run_folder(ablation, arm, 1) / "manifest.json"
        made.forge(record, {**json.loads(record.read_text()), "task_state": {"labels": ["O", "B-PER"]}})
    answer = compare_command(Request(sides=sides), str(tmp_path / "both"))
    [one] = answer.comparisons
    assert one.ledger is not None
    assert one.ledger.looks == 2  # that of the ablation, and this one
    text = " ".join((tmp_path / "both" / "report.md").read_text().split())
    assert "The test set has had 2 primary looks in 2 comparisons" in text


def test_options_that_cannot_both_be_meant_are_refused(folder, tmp_path, capsys):
    base = str(tmp_path / "base-1.jsonl")
    for words, message in {
        ("--score", "f", "--task", "ner"): "scores that are given need no task",
        ("--task", "ner"): "predictions are compared with references, and there are none",
        (): "no task says how predictions are scored",
        ("--task", "nert", "--references", base): "ner",
        ("--score", "f", "--out", str(made.write(tmp_path / "x"))): "is the folder of an ablation",
    }.items():
        out = () if "--out" in words else ("--out", str(tmp_path / "o"))
        other = str(tmp_path / "new-1.jsonl")
        assert main(["compare", base, other, *words, *out]) == 2
        assert message in capsys.readouterr().err
    assert main(["verify", str(folder), "--replay", "1"]) == 2
    assert "nothing was trained here" in capsys.readouterr().err
    assert main(["compare", base, base, "--score", "f", "--out", str(tmp_path / "o")]) == 2
    assert "two sides have one name" in capsys.readouterr().err
    assert main(["compare", f"a={base}", f"b={base}", "--score", "f", "--out", str(tmp_path / "o")]) == 2
    assert "are one file" in capsys.readouterr().err
