"""Verify finds every number and every byte that is not what the runs have stored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from pipelines.actions import reproduce
from pipelines.actions.reproduce import DIFFERENT, EQUAL, WITHIN, compare_results, compare_runs
from pipelines.actions.verify import differences
from pipelines.cli.main import main
from pipelines.storage.sealed import DIGEST, sealed
from tests.pipelines import stored_ablation as made


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    return made.reported(tmp_path_factory.mktemp("built"))


@pytest.fixture
def folder(built, tmp_path) -> Path:
    """An ablation of its own for every test."""
    shutil.copytree(built.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / built.name


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


# ---- report


def test_a_report_is_written_again_from_the_statistics_alone(folder, capsys):
    before = (folder / "results.json").read_text()
    (folder / "results.json").unlink()
    assert main(["report", str(folder)]) == 0
    assert json.loads((folder / "results.json").read_text()) == json.loads(before)
    for name in ("report.html", "report.md", "report.tex"):
        assert (folder / name).stat().st_size > 100
    assert main(["verify", str(folder)]) == 0


def test_a_report_elsewhere_leaves_the_ablation_as_it_is(folder, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert main(["report", str(folder), "--out", str(tmp_path / "elsewhere")]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    [row] = json.loads((tmp_path / "elsewhere" / "results.json").read_text())["comparisons"]
    assert (tmp_path / "elsewhere" / row["runs"]["arm"][0] / "manifest.json").exists()


def test_several_ablations_are_one_family_and_verify_together(tmp_path, capsys):
    one, two = made.reported(tmp_path, "one"), made.reported(tmp_path, "two", cells=["other"])
    three = made.reported(tmp_path, "three", arms=["stock", "temperature"])
    out = tmp_path / "together"
    assert main(["report", str(one), str(two), str(three), "--out", str(out)]) == 0
    results = json.loads((out / "results.json").read_text())
    assert [row["cell"] for row in results["comparisons"]] == ["one: toy", "other", "three: toy"]
    alone = json.loads((one / "results.json").read_text())["comparisons"][0]
    assert results["comparisons"][0]["p"] == alone["p"]
    smallest = min(results["comparisons"], key=lambda row: row["p"])
    assert smallest["p_holm"] == pytest.approx(min(1.0, 3 * smallest["p"]))
    assert main(["verify", str(out)]) == 0
    edit(out / "results.json", lambda found: found["comparisons"][1].update(p=0.5))
    assert main(["verify", str(out)]) == 1


def test_several_ablations_want_a_folder_of_their_own(folder, capsys):
    assert main(["report", str(folder), str(folder)]) == 2
    assert "--out" in capsys.readouterr().err


def test_ablations_with_different_baselines_are_not_one_report(tmp_path, capsys):
    one = made.reported(tmp_path, "one")
    two = made.reported(tmp_path, "two", baseline="gate")
    assert main(["report", str(one), str(two), "--out", str(tmp_path / "both")]) == 2
    assert "different baselines (got gate, stock)" in capsys.readouterr().err


def test_an_ablation_half_way_is_reported_without_a_verdict(tmp_path, capsys):
    folder = made.write(tmp_path, finished=[1, 2])
    assert main(["report", str(folder)]) == 0
    results = json.loads((folder / "results.json").read_text())
    assert results["comparisons"][0]["verdict"] == "no-verdict"
    assert [failure["seed"] for failure in results["failures"]] == [3, 3]
    assert main(["verify", str(folder)]) == 0


def test_nothing_finished_is_no_report(tmp_path, capsys):
    assert main(["report", str(made.write(tmp_path, finished=[]))]) == 2
    assert "no run has finished yet" in capsys.readouterr().err


def test_no_report_states_settings_that_its_runs_were_not_made_with(folder, capsys):
    before, stated = (folder / "results.json").read_bytes(), folder / "ablation.yaml"
    stated.write_text(stated.read_text().replace("batch_size: 16", "batch_size: 17"))
    assert main(["report", str(folder)]) == 2
    said = capsys.readouterr().err
    assert "a run is not what the grid says: toy / " in said
    assert "batch_size: 16 -> 17" in said
    assert (folder / "results.json").read_bytes() == before


def test_no_report_is_made_of_a_plan_that_has_lost_a_run(folder, capsys):
    before, plan = (folder / "results.json").read_bytes(), folder / "runs.json"
    plan.write_text(plan.read_text().replace("toy/gate/1", "toy/gate/8"))
    for command in ("report", "verify"):
        assert main([command, str(folder)]) == 2
        assert f"{plan}: does not name the run toy/gate/1; the same" in capsys.readouterr().err
    assert (folder / "results.json").read_bytes() == before


# ---- reproduce: what is said of a repetition (that it runs again: test_ablation)


@pytest.fixture
def pair(folder, tmp_path) -> tuple[Path, Path]:
    """A run, and its copy as a repetition left it."""
    old = made.run_folder(folder, "stock", 1)
    return old, Path(shutil.copytree(old, tmp_path / "again"))


def replace(path: Path, seed: int, skill: float) -> None:
    """Make a run folder that of another seed's statistics."""
    run = made.config(seeds=[seed]).run_config("toy", "stock", seed)
    identity = json.loads((path / "identity.json").read_text())
    shutil.rmtree(path)
    made.finish(path, run, identity, skill=skill)


def test_the_same_bits_are_called_that(pair):
    assert compare_runs(*pair, "run", alike=True).result == EQUAL


def test_other_predictions_with_equal_statistics_are_within(pair):
    path = pair[1] / "predictions.test.jsonl"
    path.write_text(path.read_text().replace('"prediction": ["', '"prediction": ["x'))
    found = compare_runs(*pair, "run", alike=False)
    assert (found.result, "other predictions" in found.detail) == (WITHIN, True)


def test_other_bits_under_equal_conditions_are_different(pair):
    path = pair[1] / "predictions.test.jsonl"
    path.write_text(path.read_text().replace('"prediction": ["', '"prediction": ["x'))
    found = compare_runs(*pair, "run", alike=True)
    assert (found.result, "the conditions are equal" in found.detail) == (DIFFERENT, True)
    replace(pair[1], seed=9, skill=0.6)
    assert compare_runs(*pair, "run", alike=True).result == DIFFERENT


def test_noise_is_within_and_a_loss_of_skill_is_different(pair):
    replace(pair[1], seed=9, skill=0.6)
    assert compare_runs(*pair, "run", alike=False).result == WITHIN
    replace(pair[1], seed=9, skill=0.2)
    assert compare_runs(*pair, "run", alike=False).result == DIFFERENT


def test_a_run_that_does_not_finish_again_is_different(pair):
    (pair[1] / "manifest.json").unlink()
    assert compare_runs(*pair, "run", alike=False).result == DIFFERENT


def test_other_versions_data_and_settings_are_named_field_by_field(pair):
    def change(manifest):
        manifest["environment"]["versions"]["torch"] = "2.14.0"
        manifest["data"]["hashes"]["test"] = "xyz"

    edit(pair[1] / "manifest.json", change)
    edit(pair[1] / "identity.json", lambda one: one["config"].update(batch_size=8))
    lines = list(reproduce.conditions(*pair))
    assert lines == [
        "not the same run: config.batch_size: 16 -> 8",
        "other conditions: versions.torch: '2.13.0' -> '2.14.0'",
        "other data: hashes.test: 'abc' -> 'xyz'",
    ]


@pytest.mark.parametrize(("shift", "word"), [(0.0, EQUAL), (0.4, WITHIN), (1.2, DIFFERENT)])
def test_a_comparison_is_reproduced_where_it_falls_into_the_old_interval(folder, shift, word):
    old = json.loads((folder / "results.json").read_text())
    new = json.loads(json.dumps(old))
    low, high = old["comparisons"][0]["ci95"]
    row = new["comparisons"][0]
    row["difference"] += shift * (high - low) / 2
    row["seed_differences"] = [one + shift for one in row["seed_differences"]]
    [found] = compare_results(old, new, alike=False)
    assert found.result == word
    [found] = compare_results(old, new, alike=True)
    assert found.result == (EQUAL if word == EQUAL else DIFFERENT)


def test_reproduce_refuses_what_it_cannot_run_again(tmp_path, capsys):
    assert main(["reproduce", str(tmp_path)]) == 2
    assert "neither a finished run nor an ablation" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["run", "ablation"])
@pytest.mark.parametrize("file", ["statistics.test.parquet", "predictions.test.jsonl", "identity.json"])
def test_reproduce_repeats_nothing_that_is_not_as_it_was_written(folder, monkeypatch, capsys, what, file):
    run = made.run_folder(folder, "stock", 1)
    (run / file).write_bytes((run / file).read_bytes()[:-20])
    for name in ("train", "run_ablation"):
        monkeypatch.setattr(reproduce, name, lambda *_, **__: pytest.fail("it was repeated"))
    assert main(["reproduce", str(run if what == "run" else folder), "--out", str(folder / "again")]) == 2
    assert str(run / file) in capsys.readouterr().err
