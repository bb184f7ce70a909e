"""Runs that are in order by themselves, and not beside the others: references, copies, names, lost looks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from pipelines.ablation import alike
from pipelines.ablation.folder import open_ablation
from pipelines.ablation.preregistration import register
from pipelines.cli.main import main
from pipelines.storage.run_folder import RunFolder
from pipelines.storage.sealed import digest
from tests.pipelines import stored_ablation as made
from tests.pipelines.ablation.test_registration import chained, verified

SPLITS = ("validation", "test")


def found(folder: Path) -> list[str]:
    return list(alike.differences(open_ablation(folder).cells))


def rescore(run: Path, change: Callable[[int, dict], object]) -> None:
    """Change predictions and references, and compute statistics, scores and every hash again."""
    manifest = json.loads((run / "manifest.json").read_text())
    for split in SPLITS:
        lines = [json.loads(line) for line in (run / f"predictions.{split}.jsonl").read_text().splitlines()]
        for number, line in enumerate(lines):
            change(number, line)
        ids, predictions, references = (
            [line[name] for line in lines] for name in ("id", "prediction", "reference")
        )
        table = made.F1.table(predictions, references)
        sides = {"predictions": predictions, "references": references}
        evaluation = {"ids": ids, "clusters": ids, "metrics": {"f1": made.F1}, "statistics": {"f1": table}}
        RunFolder(run).write_evaluation(split, SimpleNamespace(**evaluation, **sides))
        manifest["scores"][split]["f1"] = float(made.F1.score(table.sum(axis=0)))
    made.forge(run / "manifest.json", manifest)
    made.list_again(run)


def test_references_that_were_changed_in_one_arm_are_named_although_every_hash_is_right(tmp_path, capsys):
    folder = made.write(tmp_path)
    assert found(folder) == []
    for seed in (1, 2, 3):
        run = made.run_folder(folder, "gate", seed)
        rescore(run, lambda number, line: number == 7 and line.update(reference=["B-LOC"] * 32))
    lines = found(folder)
    assert lines[0] == (
        "toy / gate / seed 1: predictions.validation.jsonl, line 8: has another reference than "
        "toy / stock / seed 1"
    )
    assert len(lines) == 6
    assert main(["report", str(folder)]) == 0
    status, out = verified(folder, capsys)
    assert (status, lines[0] in out) == (1, True)


def test_the_best_seed_under_the_names_of_the_others_is_named(tmp_path):
    folder = made.write(tmp_path)
    best = made.run_folder(folder, "gate", 2)
    for seed in (1, 3):
        run = made.run_folder(folder, "gate", seed)
        own = json.loads((run / "manifest.json").read_text())
        for path in best.glob("*.*"):
            if path.name not in ("identity.json", "run.yaml", "manifest.json"):
                shutil.copy(path, run / path.name)
        kept = {name: own[name] for name in ("config", "run_hash", "batches_hash")}
        made.forge(run / "manifest.json", json.loads((best / "manifest.json").read_text()) | kept)
        made.list_again(run)
    assert found(folder) == [
        f"toy / gate / seed {seed}: has all losses and predictions of toy / gate / seed 1: a copy, or its "
        "seed is idle"
        for seed in (2, 3)
    ]


def test_a_run_without_predictions_is_passed_over(tmp_path):
    folder = made.write(tmp_path)
    for seed in (1, 2, 3):
        for split in SPLITS:
            (made.run_folder(folder, "gate", seed) / f"predictions.{split}.jsonl").unlink()
    assert found(folder) == []


def test_a_copy_under_another_name_is_found_also_when_it_was_reported_again(tmp_path, capsys):
    folder = made.write(tmp_path)
    chained(folder)
    assert main(["report", str(folder)]) == 0
    assert verified(folder, capsys)[0] == 0
    shutil.copytree(folder, tmp_path / "copy")
    assert main(["report", str(tmp_path / "copy")]) == 0
    status, out = verified(tmp_path / "copy", capsys)
    assert (status, "was made for the folder toy, and this one is copy" in out) == (1, True)


def test_a_copy_of_the_registration_beside_it_vouches_for_nothing(tmp_path, capsys):
    folder = made.write(tmp_path)
    chained(folder)
    shutil.copytree(folder, tmp_path / "honest")
    stored = json.loads((folder / "registration.json").read_text())
    stored["declared"]["margin"]["f1"] = 9.0
    changed = stored | {"hash": digest(stored["declared"]), "finished_before": {}, "finished_runs": []}
    made.forge(folder / "registration.json", changed)
    stated = yaml.safe_load((folder / "ablation.yaml").read_text())
    (folder / "ablation.yaml").write_text(yaml.safe_dump(stated | {"margin": {"f1": 9.0}}))
    assert main(["report", str(folder)]) == 0
    status, out = verified(folder, capsys)
    assert (status, "toy / gate / seed 1 was trained under another registration" in out) == (1, True)


@pytest.mark.parametrize("looked_first", [True, False], ids=["before it", "after it"])
def test_a_ledger_that_was_begun_anew_has_lost_the_looks_of_others(tmp_path, capsys, looked_first):
    other, own = (tmp_path / name for name in ("other", "own"))
    made.write(tmp_path, "own" if not looked_first else "other")
    stated = made.config(margin={"f1": 3.0})
    second = own if looked_first else other
    if looked_first:
        assert main(["report", str(other)]) == 0
    register(stated, second)
    (second / "runs.json").write_text(((other if looked_first else own) / "runs.json").read_text())
    if not looked_first:
        assert main(["report", str(other)]) == 0
    else:
        (other / "results.json").unlink()  # nothing beside it tells of the look
    (tmp_path / "ledger.jsonl").unlink()
    assert main(["report", str(own)]) == 0
    status, out = verified(own, capsys)
    before = "ledger.jsonl: does not hold the last look before own was registered"
    beside = "ledger.jsonl: does not hold the look after which other/results.json was written"
    assert (status, (before if looked_first else beside) in out) == (1, True), out


def fail(run: Path) -> None:
    (run / "manifest.json").unlink()
    (run / "failure.txt").write_text("out of memory\n")


@pytest.mark.parametrize("lose", [shutil.rmtree, fail])
def test_a_run_that_was_looked_at_and_is_gone_is_named(tmp_path, capsys, lose):
    folder = made.write(tmp_path)
    assert main(["report", str(folder)]) == 0
    lose(made.run_folder(folder, "gate", 3))
    assert main(["report", str(folder)]) == 0
    status, out = verified(folder, capsys)
    assert (status, "6 runs of toy had ended at a look, and now 5 have" in out) == (1, True)


def test_a_primary_metric_that_no_run_has_is_one_sentence(tmp_path, capsys):
    folder = made.write(tmp_path)
    stated = yaml.safe_load((folder / "ablation.yaml").read_text())
    (folder / "ablation.yaml").write_text(yaml.safe_dump(stated | {"primary": {"ner": "f1_strict"}}))
    assert main(["report", str(folder)]) == 2
    assert (
        "was not scored by f1_strict, which is said to be primary; it was by f1." in capsys.readouterr().err
    )
