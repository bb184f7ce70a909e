"""What a run has written goes; anything else stops the removal before its first file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipelines.ablation.preregistration import refuse_foreign, register
from pipelines.ablation.unused import delete_run
from pipelines.errors import UserError
from pipelines.storage.lock import Busy, lock
from pipelines.storage.removal import BEFORE_IDENTITY, refuse_strangers, remove_files, remove_run
from pipelines.storage.run_folder import RunFolder
from tests.pipelines import stored_ablation as made

WRITTEN = (
    *("run.yaml", "identity.json", "manifest.json", "log.txt", "failure.txt", "starts.json"),
    *("metrics.jsonl", "diagnostics.jsonl", "predictions.test.jsonl", "statistics.test.parquet"),
    *("model/config.json", "model/model-00001-of-00002.safetensors", "model/own.vocab"),
    *("checkpoints/conditions.json", "checkpoints/step-00000007/seal.json"),
    "checkpoints/step-00000004.invalid-1/model.safetensors",
    "checkpoints/step-00000009/.seal.json.0a1b2c3d.tmp",
    *(".predictions.test.jsonl.00ff00ff.tmp", "trackers/attnlab/1.5/events.out.tfevents.17.host"),
    *("hub/me--it@main.json", "hub/me--it@main/cells/x/README.md", "hub/.me--it@main.01234567.tmp/half.bin"),
)  # fmt: skip


@pytest.fixture
def run(tmp_path) -> Path:
    for name in WRITTEN:
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_text("x")
    (tmp_path / "run" / "manifest.json").write_text(json.dumps({"files": {"model/own.vocab": "sha"}}))
    record = {"files": {"cells/x/README.md": "sha"}}
    (tmp_path / "run" / "hub" / "me--it@main.json").write_text(json.dumps(record))
    for path in (tmp_path / "run" / "hub").rglob("*"):
        os.utime(path, (0, 0))
    return tmp_path / "run"


def everything(folder: Path) -> dict[str, bytes | str | None]:
    return {
        str(path.relative_to(folder)): (
            os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        )
        for path in folder.rglob("*")
        if not str(path.relative_to(folder)).startswith("run/hub/.me")
    }


def test_all_that_a_run_writes_is_removed(run):
    remove_run(run)
    assert not run.exists()
    remove_run(run)  # a missing one is fine


STRANGERS = {
    "a file": lambda run: (run / "notes.md").write_text("mine"),
    "a hidden file": lambda run: (run / ".git").write_text("gitdir: elsewhere"),
    "a file in a folder of the run": lambda run: (run / "model" / "notes.md").write_text("mine"),
    "a file beside checkpoints": lambda run: (run / "checkpoints" / "thesis.tex").write_text("mine"),
    "a folder": lambda run: (run / "cells" / "0a1b").mkdir(parents=True),
    "a folder of files": lambda run: [(run / "src").mkdir(), (run / "src" / "a.py").write_text("mine")],
    "a folder in place of a file": lambda run: [(run / "log.txt").unlink(), (run / "log.txt").mkdir()],
    "a file in place of a folder": lambda run: (run / "trackers" / "attnlab" / "1.5" / "more").write_text(""),
    "a link to a file": lambda run: (run / "predictions.train.jsonl").symlink_to(run.parent / "kept"),
    "a link to a folder": lambda run: (run / "checkpoints" / "step-00000001").symlink_to(run.parent / "data"),
    "a link in place of a folder of the run": lambda run: [
        remove_files(run / "model", ("*",)),
        (run / "model").symlink_to(run.parent / "data"),
    ],
    "another temporary name": lambda run: (run / ".notes.md.0a1b2c3d.tmp").write_text("mine"),
    "a stranger in what was pushed": lambda run: (run / "hub" / "me--it@main" / "mine").write_text(""),
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_nothing_is_removed_where_anything_else_is(run, kind):
    (run.parent / "data").mkdir()
    (run.parent / "data" / "config.json").write_text("mine")
    (run.parent / "kept").write_text("mine")
    STRANGERS[kind](run)
    before = everything(run.parent)
    with pytest.raises(UserError, match="which attnlab does not write there, so nothing is removed"):
        remove_run(run)
    assert everything(run.parent) == before
    assert "which attnlab does not write there" in (delete_run(run) or "")


def test_a_link_to_a_run_and_a_folder_without_a_run_are_refused(run):
    link = run.with_name("latest")
    link.symlink_to(run)
    with pytest.raises(UserError, match="is a link"):
        remove_run(link)
    (run / "identity.json").unlink()
    (run / "manifest.json").unlink()
    with pytest.raises(UserError, match="is no run folder"):
        remove_run(run)
    assert (run / "run.yaml").exists()


def test_a_run_that_is_worked_on_is_kept(run):
    with lock(run / ".lock"), pytest.raises(Busy):
        remove_run(run)
    assert (run / "manifest.json").exists()


def test_a_kill_during_the_removal_leaves_what_can_be_removed(run, monkeypatch):
    unlink, seen = Path.unlink, iter(range(100))

    def dying(path, *arguments, **options):
        if path.name != ".lock" and next(seen) == 9:
            raise KeyboardInterrupt
        unlink(path, *arguments, **options)

    monkeypatch.setattr(Path, "unlink", dying)
    with pytest.raises(KeyboardInterrupt):
        remove_run(run)
    monkeypatch.undo()
    assert run.exists()
    remove_run(run)
    assert not (run / "identity.json").exists()


def test_dropping_a_model_removes_the_files_of_the_manifest_only(run):
    files = {"files": {"model/config.json": "sha", "model/own.vocab": "sha", "metrics.jsonl": "sha"}}
    kinds = {key: {} for key in ("task_state", "scores", "metrics", "data", "environment")}
    kinds["config"] = {"task": {"name": "ner"}, "seed": 1, "data": {}, "attention": []}
    kinds["config"]["model"] = {"name": None, "family": "encoder"}
    manifest = {"status": "finished", "run_hash": "", "primary": "", **kinds, **files}
    (run / "manifest.json").write_text(json.dumps(manifest))
    (run / "model" / "my-notes.txt").write_text("mine")
    RunFolder(run).drop_model()
    left = ["model-00001-of-00002.safetensors", "my-notes.txt"]
    assert sorted(path.name for path in (run / "model").iterdir()) == left
    assert (run / "metrics.jsonl").exists()


def test_a_new_run_does_not_begin_among_other_files(tmp_path):
    (tmp_path / "log.txt").write_text("")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "conditions.json").write_text("")
    refuse_strangers(tmp_path, BEFORE_IDENTITY, "is written")
    (tmp_path / "run.yaml").write_text("the user's own")
    with pytest.raises(UserError, match=r"holds run\.yaml, which attnlab does not write"):
        refuse_strangers(tmp_path, BEFORE_IDENTITY, "is written")


@pytest.mark.parametrize("name", ["ablation.yaml", "results.json", "report.md"])
def test_an_ablation_does_not_replace_a_file_that_none_wrote(tmp_path, name):
    refuse_foreign(tmp_path)
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=f"holds {name}, but no registration"):
        refuse_foreign(tmp_path)


@pytest.mark.parametrize("name", ["cells", "cache"])
def test_no_ablation_is_put_where_others_keep_their_runs(tmp_path, name):
    for folder in (tmp_path / name, tmp_path / "other" / ".." / name):
        with pytest.raises(UserError, match=f"is where the ablations beside it keep their {name}; choose"):
            register(made.config(), folder)
    assert list(tmp_path.iterdir()) == []
