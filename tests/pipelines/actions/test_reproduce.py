"""What is said of a repetition, and what is not repeated (that it runs again: test_ablation)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipelines.actions import reproduce
from pipelines.actions.reproduce import DIFFERENT, EQUAL, WITHIN, compare_results, compare_runs
from pipelines.cli.main import main
from tests.pipelines import stored_ablation as made
from tests.pipelines.actions.test_verify import edit


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
