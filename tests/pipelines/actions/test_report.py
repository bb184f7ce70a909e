"""A report is computed from stored statistics alone, of one ablation or of several as one family."""

from __future__ import annotations

import json

import pytest

from pipelines.cli.main import main
from pipelines.storage.sealed import without_seal
from tests.pipelines import stored_ablation as made
from tests.pipelines.actions.test_verify import edit


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


@pytest.mark.parametrize("name", ["results.csv", "report.md", "results.json"])
def test_a_report_replaces_no_file_that_no_report_wrote(folder, tmp_path, capsys, name):
    own = tmp_path / "papers"
    own.mkdir()
    (own / name).write_text("mine")
    assert main(["report", str(folder), "--out", str(own)]) == 2
    assert (
        f"--out: holds {name}, but no ablations.json, so no report wrote it (got {own})"
        in capsys.readouterr().err
    )
    assert [path.read_text() for path in own.iterdir()] == ["mine"]


def test_a_report_replaces_no_report_of_another_ablation_or_run(tmp_path, capsys):
    one, two = made.reported(tmp_path, "one"), made.reported(tmp_path, "two", cells=["other"])
    before = (two / "results.json").read_bytes()
    for folders, out in (([one], two), ([one, two], two), ([one], made.run_folder(one, "gate", 1))):
        assert main(["report", *map(str, folders), "--out", str(out)]) == 2
        assert "--out: is the folder of a run or of another ablation: it has " in capsys.readouterr().err
    assert (two / "results.json").read_bytes() == before


def test_a_report_elsewhere_is_written_again_and_verified_there(tmp_path, capsys):
    one, two = made.reported(tmp_path, "one"), made.reported(tmp_path, "two", cells=["other"])
    out = str(tmp_path / "elsewhere")
    for folders in ([one, two], [one]):  # the second says of itself that it is of one only
        assert main(["report", *map(str, folders), "--out", out]) == 0
        assert main(["verify", out]) == 0, capsys.readouterr().out


def test_cells_of_one_test_set_are_reported_in_one_order(tmp_path, capsys):
    folder = made.write(tmp_path, cells=["zoo", "ant"])
    assert main(["report", str(folder)]) == 0
    assert main(["verify", str(folder)]) == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("proof", {"max_difference": "large"}),
        ("train_seconds", "long"),
        ("num_steps", [4]),
        ("best_step", "7"),
    ],
)
def test_no_report_is_made_of_an_entry_of_another_type(folder, capsys, entry, value):
    record = made.run_folder(folder, "gate", 1) / "manifest.json"
    made.forge(record, without_seal({**json.loads(record.read_text()), entry: value}))
    for command in ("report", "verify"):
        assert main([command, str(folder)]) == 2
        assert f"{record}: the field {entry}" in capsys.readouterr().err
