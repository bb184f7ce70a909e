"""What is not as its run wrote it is neither staged nor loaded; text that may not be published stays here."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet
import pytest

from pipelines.cli.main import main
from pipelines.comparison import scored_run
from pipelines.config.load import run_from_dict
from pipelines.errors import without_values
from pipelines.publish import load_check, model_files, portable
from pipelines.runs import identity
from pipelines.storage.run_folder import RunFolder
from pipelines.storage.sealed import sealed
from tests.pipelines import stored_ablation


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """A finished run; to load or to stage its model is an error."""
    config = run_from_dict(stored_ablation.RUN)
    folder = tmp_path / "run"
    stored_ablation.finish(folder, config, identity.describe(config))
    (folder / "model" / "config.json").write_text('{"layer_norm_eps": 1e-12, "id2label": {"0": "O"}}')
    stored_ablation.list_again(folder)
    monkeypatch.setattr(model_files, "write", lambda *_: pytest.fail("it is staged"))
    monkeypatch.setattr(load_check, "check_loading", lambda *_: pytest.fail("it is loaded"))
    return folder


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "one bit of the weights": lambda run: flip(run / "model" / "model.safetensors"),
    "a setting of the model": lambda run: (run / "model" / "config.json").write_text('{"id2label": {}}'),
    "no log": lambda run: (run / "metrics.jsonl").unlink(),
    "no statistics": lambda run: (run / "statistics.test.parquet").unlink(),
    "code beside the weights": lambda run: (run / "model" / "modeling_x.py").write_text("raise SystemExit\n"),
    "a seed in the manifest": lambda run: change(run, lambda stored: stored["config"].update(seed=9)),
}


def change(run: Path, edit) -> None:
    path = run / "manifest.json"
    stored = json.loads(path.read_text())
    edit(stored)
    path.write_text(json.dumps(sealed(stored)))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_that_is_not_as_it_was_written_is_not_staged(run, capsys, damage):
    DAMAGES[damage](run)
    assert main(["push", str(run), "lab/model", "--dry-run"]) == 2
    assert "put the file back, or make the run again: attnlab train" in capsys.readouterr().err
    assert not list(run.rglob("hub/lab*"))


def test_a_link_to_a_file_of_this_machine_is_not_staged(run, tmp_path, capsys):
    (tmp_path / "private").write_text("private\n")
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").symlink_to(tmp_path / "private")
    assert main(["push", str(run), "lab/model", "--dry-run"]) == 2
    assert f"{run}/metrics.jsonl: is a link" in capsys.readouterr().err


def test_a_file_that_the_run_did_not_write_is_not_copied(run, tmp_path):
    (tmp_path / "private").write_text("private\n")
    (run / "statistics.mine.parquet").symlink_to(tmp_path / "private")
    (run / "predictions.mine.jsonl").symlink_to(tmp_path / "private")
    portable.copy_run(RunFolder(run), tmp_path / "pushed", {})
    assert not list((tmp_path / "pushed").glob("*.mine.*"))


def test_a_linked_reason_of_a_failure_is_not_pushed(tmp_path, capsys):
    folder = stored_ablation.reported(tmp_path / "runs")
    (tmp_path / "private").write_text("private\n")
    (tmp_path / "runs" / "cells" / "0123").mkdir()
    (tmp_path / "runs" / "cells" / "0123" / "failure.txt").symlink_to(tmp_path / "private")
    assert main(["push", str(folder), "lab/model", "--dry-run"]) == 2
    assert "0123/failure.txt: is a link" in capsys.readouterr().err


@pytest.mark.parametrize("publishes", [False, True])
def test_ids_and_clusters_are_pushed_as_hashes_unless_text_may_be(tmp_path, publishes):
    data = {**stored_ablation.RUN["data"], "publish_text": publishes}
    config = run_from_dict(stored_ablation.RUN | {"data": data})
    stored_ablation.finish(tmp_path / "run", config, identity.describe(config))
    portable.copy_run(RunFolder(tmp_path / "run"), tmp_path / "pushed", {})
    stored = pyarrow.parquet.read_table(tmp_path / "pushed" / "statistics.test.parquet")
    assert ("s17" in stored["id"].to_pylist()) == ("s17" in stored["cluster"].to_pylist()) == publishes
    own, pushed = (scored_run.read(tmp_path / name, name, "test") for name in ("run", "pushed"))
    assert own.examples == pushed.examples
    assert len(set(pushed.examples)) == 60
    assert (own.statistics["f1"] == pushed.statistics["f1"]).all()
    assert own.prediction_hashes == pushed.prediction_hashes


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        (
            "a.csv, row 3: no label (got 'Ann (of Acme); ill'); write one.",
            "a.csv, row 3: no label; write one.",
        ),
        ("a.csv: the words 'Ann is ill' do not align.", "a.csv: the words … do not align."),
        ("ValueError: Ann is ill (see log.txt beside this)", "ValueError (see log.txt beside this)"),
        ("example Ann is ill: the image is damaged.", "example …: the image is damaged."),
        ("the run's data isn't there; that's all.", "the run's data isn't there; that's all."),
    ],
)
def test_a_sentence_without_its_values_keeps_its_place_and_its_remedy(sentence, shown):
    assert without_values(sentence) == shown


@pytest.mark.parametrize("publishes", [False, True])
def test_the_reason_of_a_failure_shows_no_row_in_report_and_record(tmp_path, publishes):
    folder = stored_ablation.write(tmp_path, finished=(1, 2, 3), seeds=(1, 2, 3, 4), cells=("toy",))
    stated = folder / "ablation.yaml"
    stated.write_text(
        stated.read_text().replace("publish_text: false", f"publish_text: {str(publishes).lower()}")
    )
    failed = stored_ablation.run_folder(folder, "gate", 4)
    failed.mkdir()
    (failed / "failure.txt").write_text("a.csv, row 3: no label (got 'Ann is ill'); write one.\n")
    assert main(["report", str(folder)]) == 0
    for name in ("results.json", "report.html", "report.md"):
        assert ("Ann is ill" in (folder / name).read_text()) == publishes, name
        assert "a.csv, row 3: no label" in (folder / name).read_text()
