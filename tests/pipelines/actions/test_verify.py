"""Verify finds every number and every byte that is not what the runs have stored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from pipelines.actions.verify import differences
from pipelines.cli.main import main
from pipelines.storage.sealed import DIGEST, sealed
from tests.pipelines import stored_ablation as made


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(sealed(content) if DIGEST in content else content))


def test_what_nobody_touched_verifies(folder, capsys):
    assert main(["verify", str(folder)]) == 0
    assert "every number is what the stored statistics give" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["difference", "se", "df", "p", "p_holm", "mde80", "margin"])
def test_a_changed_number_is_named_with_both_values(folder, capsys, name):
    def change(results):
        results["comparisons"][0][name] = 0.123

    edit(folder / "results.json", change)
    assert main(["verify", str(folder)]) == 1
    out = capsys.readouterr().out
    assert f"results.json: comparisons[toy / gate / f1].{name}: 0.123 -> " in out
    assert len(out.splitlines()) == 1


def test_a_verdict_written_by_hand_is_found(folder, capsys):
    edit(folder / "results.json", lambda results: results["comparisons"][0].update(verdict="better"))
    assert main(["verify", str(folder)]) == 1
    assert ".verdict: 'better' -> " in capsys.readouterr().out


def test_a_list_that_lost_an_entry_is_found(folder, capsys):
    edit(folder / "results.json", lambda results: results["comparisons"][0]["arm_scores"].pop())
    assert main(["verify", str(folder)]) == 1
    assert "arm_scores" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ["predictions.test.jsonl", "statistics.test.parquet", "metrics.jsonl", "run.yaml"]
)
def test_a_file_of_a_run_that_changed_is_named_with_the_run(folder, capsys, name):
    path = made.run_folder(folder, "gate", 2) / name
    path.write_bytes(path.read_bytes() + b"\n")
    assert main(["verify", str(folder)]) == 1
    assert f"toy / gate / seed 2: {name}: has changed since the run finished" in capsys.readouterr().out


def test_weights_may_be_dropped_but_not_changed(folder, capsys):
    shutil.rmtree(made.run_folder(folder, "gate", 1) / "model")
    assert main(["verify", str(folder)]) == 0
    (made.run_folder(folder, "gate", 2) / "model" / "model.safetensors").write_bytes(b"others")
    assert main(["verify", str(folder)]) == 1
    assert "model/model.safetensors: has changed" in capsys.readouterr().out


def test_a_missing_file_is_named(folder, capsys):
    (made.run_folder(folder, "stock", 1) / "predictions.test.jsonl").unlink()
    assert main(["verify", str(folder)]) == 1
    assert "predictions.test.jsonl: is missing" in capsys.readouterr().out


def test_an_identity_that_is_not_the_hashed_one_is_found(folder, capsys):
    edit(made.run_folder(folder, "stock", 1) / "identity.json", lambda one: one.update(numerics=0))
    assert main(["verify", str(folder)]) == 1
    assert "identity.json: does not match the run hash" in capsys.readouterr().out


def test_a_registration_edited_after_the_fact_is_found(folder, capsys):
    edit(folder / "registration.json", lambda one: one["declared"]["margin"].update(f1=3.0))
    assert main(["verify", str(folder)]) == 1
    assert "registration.json: the declaration does not match its hash" in capsys.readouterr().out


def test_a_score_that_its_statistics_do_not_give_is_found(folder, capsys):
    def change(manifest):
        manifest["scores"]["test"]["f1"] = 99.0

    edit(made.run_folder(folder, "stock", 1) / "manifest.json", change)
    assert main(["verify", str(folder)]) == 1
    assert "99.0 in manifest.json" in capsys.readouterr().out


def test_one_run_is_verified_by_its_hashes(folder, capsys):
    path = made.run_folder(folder, "stock", 1)
    assert main(["verify", str(path)]) == 0
    (path / "metrics.jsonl").write_text("")
    assert main(["verify", str(path)]) == 1


def test_neither_run_nor_ablation_is_refused(tmp_path, capsys):
    assert main(["verify", str(tmp_path)]) == 2


def test_rounding_is_no_difference_and_nothing_is_not_zero():
    assert list(differences({"a": [1.0]}, {"a": [1.0 + 1e-12]})) == []
    assert list(differences({"a": 1.0}, {"a": 1.0 + 1e-6})) == ["a: 1.0 -> 1.000001"]
    assert list(differences({"a": None}, {"a": 0.0})) == ["a: None -> 0.0"]


# ---- what is trusted
def test_a_report_edited_by_hand_is_named(folder, capsys):
    assert main(["report", str(folder)]) == 0
    assert main(["verify", str(folder)]) == 0
    for name in ("report.html", "report.md", "report.tex"):
        before = (folder / name).read_text()
        (folder / name).write_text(before.replace("gate", "gait", 1))
        assert main(["verify", str(folder)]) == 1
        assert f"{name}: is not what results.json is rendered as" in capsys.readouterr().out
        (folder / name).unlink()
        assert main(["verify", str(folder)]) == 1
        assert f"{name}: is missing" in capsys.readouterr().out
        (folder / name).write_text(before)


def test_a_report_of_another_version_or_without_its_record_cannot_be_compared(folder, capsys):
    assert main(["report", str(folder)]) == 0
    edit(folder / "reports.json", lambda record: record.update(renderer="0" * 64))
    assert main(["verify", str(folder)]) == 1
    assert "another version rendered it, so it is held against reports.json only" in capsys.readouterr().out
    (folder / "reports.json").unlink()
    assert main(["verify", str(folder)]) == 1
    assert "report.html: there is no reports.json, so it is not compared" in capsys.readouterr().out


def test_other_rules_are_named_and_hide_nothing(folder, capsys):
    assert main(["report", str(folder)]) == 0
    edit(folder / "results.json", lambda results: results.update(rules=1))
    edit(folder / "results.json", lambda results: results["comparisons"][0].update(verdict="better"))
    assert main(["verify", str(folder)]) == 1
    assert "other rules gave its p values, intervals and verdicts" in capsys.readouterr().out


def test_a_run_that_is_said_to_have_diverged_after_it_was_scored_is_named(folder, capsys):
    run = made.run_folder(folder, "gate", 3)
    manifest = json.loads((run / "manifest.json").read_text())
    made.forge(run / "manifest.json", manifest | {"status": "diverged", "diverged_at": 30})
    made.list_again(run)
    assert main(["report", str(folder)]) == 0
    assert main(["verify", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "toy / gate / seed 3: manifest.json: says that the run diverged, and scores it on test" in out


@pytest.mark.parametrize("change", [{"higher_is_better": False}, {"options": {"strict": True}}])
def test_a_manifest_that_turns_or_exchanges_a_metric_is_one_sentence(folder, capsys, change):
    for seed in (1, 2, 3):
        run = made.run_folder(folder, "gate", seed)
        manifest = json.loads((run / "manifest.json").read_text())
        manifest["metrics"]["f1"] |= change
        made.forge(run / "manifest.json", manifest)
        made.list_again(run)
    assert main(["report", str(folder)]) == 2
    assert "manifest.json: describes another metric as f1: " in capsys.readouterr().err
    assert main(["verify", str(folder)]) == 1


def test_an_ablation_that_says_something_else_than_its_runs_is_found(folder, capsys):
    path = folder / "ablation.yaml"
    path.write_text(path.read_text().replace("learning_rate: ", "learning_rate: 1", 1))
    assert main(["verify", str(folder)]) == 1
    assert "is not the run of ablation.yaml: learning_rate: " in capsys.readouterr().out


def test_predictions_that_do_not_give_the_statistics_are_found_although_every_hash_is_right(folder, capsys):
    run = made.run_folder(folder, "gate", 2)
    path = run / "predictions.test.jsonl"
    lines = path.read_text().splitlines()
    line = json.loads(lines[4])
    line["prediction"] = ["B-ORG", *line["prediction"][1:]]
    path.write_text("\n".join([*lines[:4], json.dumps(line), *lines[5:]]) + "\n")
    made.list_again(run)
    assert main(["verify", str(run)]) == 1
    out = capsys.readouterr().out
    assert "predictions.test.jsonl: gives other statistics of f1 than statistics.test.parquet, line 5" in out


def test_statistics_forged_with_their_score_and_every_hash_are_found(folder, capsys):
    """One true positive more in every third example of an arm: "better", were the predictions not scored."""
    for seed in (1, 2, 3):
        run = made.run_folder(folder, "gate", seed)
        path, manifest = run / "statistics.test.parquet", json.loads((run / "manifest.json").read_text())
        table = pyarrow.parquet.read_table(path)
        names = [f"f1.{name}" for name in manifest["metrics"]["f1"]["columns"]]
        columns = np.stack([table[name].to_numpy() for name in names], axis=1)
        columns[::3] += [1, 1, 0]
        for name, column in zip(names, columns.T):
            table = table.set_column(table.column_names.index(name), name, pyarrow.array(column))
        pyarrow.parquet.write_table(table, path)
        manifest["scores"]["test"]["f1"] = float(made.F1.score(columns.sum(axis=0)))
        made.forge(run / "manifest.json", manifest)
        made.list_again(run)
    assert main(["report", str(folder)]) == 0
    assert json.loads((folder / "results.json").read_text())["comparisons"][0]["verdict"].endswith("better")
    assert main(["verify", str(folder)]) == 1
    out = capsys.readouterr().out
    for seed in (1, 2, 3):
        assert f"seed {seed}: predictions.test.jsonl: gives other statistics of f1 than " in out


def test_no_other_split_is_taken_for_one_whose_statistics_are_gone(folder, capsys):
    assert main(["report", str(folder)]) == 0
    before = (folder / "results.json").read_bytes()
    path = made.run_folder(folder, "stock", 3) / "statistics.test.parquet"
    path.unlink()
    assert main(["report", str(folder)]) == 2
    said = capsys.readouterr().err
    assert f"{path}: is missing; " in said
    assert "attnlab train" in said
    assert (folder / "results.json").read_bytes() == before


@pytest.mark.parametrize("name", ["metrics.jsonl", "predictions.test.jsonl", "statistics.validation.parquet"])
def test_no_report_is_made_of_a_file_that_has_changed(folder, capsys, name):
    path = made.run_folder(folder, "gate", 1) / name
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1) + b" ")
    assert main(["report", str(folder)]) == 2
    assert f"{path}: has changed since the run finished" in capsys.readouterr().err


def test_a_folder_in_the_place_of_the_report_is_one_sentence(folder, capsys):
    (folder / "report.html").mkdir()
    assert main(["report", str(folder)]) == 2
    assert (
        f"{folder}/report.html: is a folder, in the place of a file; move it away." in capsys.readouterr().err
    )


@pytest.mark.parametrize("command", ["report", "verify", "status"])
@pytest.mark.parametrize("name", ["ablation.yaml", "runs.json", "registration.json"])
@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"7", b"{", b"\xff"])
def test_a_damaged_file_of_an_ablation_is_one_sentence(folder, capsys, command, name, content):
    (folder / name).write_bytes(content)
    status = main([command, str(folder)])
    said = capsys.readouterr().err
    if name == "registration.json" and command == "status":
        assert (status, said) == (0, "")  # it does not read it
    else:
        assert status == 2
        assert said.startswith(f"{folder / name}")
        assert said.count("\n") == 1
