"""What `attnlab compare` writes is verified, noted in the ledger, and called what it is."""

from __future__ import annotations

import json

import pytest

import attnlab
from pipelines.actions.compare import Request, compare_command
from pipelines.actions.verify import verify_command
from pipelines.cli.main import main
from pipelines.comparison.scored_run import without_names
from pipelines.errors import RunFailed, UserError
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


def test_from_python_it_gives_the_same_results(folder, tmp_path):
    sides = [tmp_path / f"{name}-*.jsonl" for name in ("base", "new")]
    found = attnlab.compare(*sides, out=tmp_path / "runs" / "again", scores=["f", "g"], margin=0.1)
    stored = json.loads((folder / "results.json").read_text())
    assert found["hash"] == stored["hash"]
    assert [row["p"] for row in found["comparisons"]] == [row["p"] for row in stored["comparisons"]]


def test_it_is_reported_again_as_it_was(folder, capsys):
    before = {name: (folder / name).read_bytes() for name in ("report.md", "results.json")}
    assert main(["report", str(folder)]) == 0
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert main(["report", str(folder), "--out", str(folder.parent / "o")]) == 2
    assert "is a comparison after the fact, which is reported by itself" in capsys.readouterr().err


def test_a_pushed_run_is_compared_by_its_statistics(tmp_path):
    """Its record holds neither predictions nor ids: files are scored with the references of a file."""
    ablation = made.write(tmp_path)
    run = made.run_folder(ablation, "gate", 2)
    lines = [json.loads(line) for line in (run / "predictions.test.jsonl").read_text().splitlines()]
    gold, mine = ([line[side] for line in lines] for side in ("reference", "prediction"))
    statistics = run / "statistics.test.parquet"
    statistics.write_bytes(without_names(statistics))
    for split in ("test", "validation"):
        (run / f"predictions.{split}.jsonl").unlink()
    manifest = json.loads((run / "manifest.json").read_text())
    made.forge(run / "manifest.json", {**manifest, "task_state": {"labels": ["O", "B-PER", "B-LOC"]}})
    made.list_again(run)
    same = files.run_ner(tmp_path / "same.txt", mine)
    references = str(files.conll(tmp_path / "test.conll", gold))
    request = Request(sides=[str(run), str(same)], task="ner", references=references)
    [one] = compare_command(request, str(tmp_path / "out")).comparisons
    assert (one.word, one.difference, one.examples) == ("identical", 0.0, 60)
    assert verify_command(str(tmp_path / "out")).intact
    with pytest.raises(UserError, match="a pushed run has no references to score the other files with"):
        compare_command(Request(sides=[str(run), str(same)]), str(tmp_path / "out"))
    other = str(files.conll(tmp_path / "other.conll", gold[:-1]))
    with pytest.raises(UserError, match=r"have different numbers of examples .got 60 and 59"):
        compare_command(Request(sides=[str(run), str(same)], references=other), str(tmp_path / "out"))


def test_options_that_cannot_both_be_meant_are_refused(folder, tmp_path, capsys):
    base = str(tmp_path / "base-1.jsonl")
    for words, message in {
        ("--score", "f", "--references", base): "scores that are given need no references",
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
