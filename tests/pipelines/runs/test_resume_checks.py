"""A run resumes only under the conditions it started with, and a full disk at any moment loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import contextmanager

import pytest

from pipelines.config.load import run_from_dict
from pipelines.errors import Interrupted, RunFailed, UserError
from pipelines.runs import environment, resume_checks
from pipelines.runs.execute import execute
from pipelines.storage.run_folder import RunFolder
from pipelines.train.engine import Engine
from pipelines.train.progress import Reporter
from tests.pipelines.train.harness import REAL


def run(folder, cache=None, **changes):
    config = run_from_dict({**REAL, **changes})
    return execute(config, RunFolder(folder), cache or folder.parent / "cache", Reporter(enabled=False))


@contextmanager
def asked_to_stop_at(step):
    """The run in this process is sent SIGTERM when this step begins."""
    take = Engine.take_step

    def taking(training, plan_step):
        if plan_step.number == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return take(training, plan_step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "take_step", taking)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder)
    return folder


def test_a_run_goes_on_under_its_conditions_and_under_no_others(whole, tmp_path):
    folder = tmp_path / "run"
    with asked_to_stop_at(7), pytest.raises(Interrupted):
        run(folder)
    with pytest.raises(UserError, match=r"other conditions: threads: 1 -> 2; put that back"):
        run(folder, threads=2)
    conditions = (folder / "checkpoints/conditions.json").rename(folder / "checkpoints/away")
    with pytest.raises(UserError, match=r"conditions\.json"):
        run(folder)  # nobody knows whether they are the same
    conditions.rename(folder / "checkpoints/conditions.json")
    run(folder)
    assert (folder / "model/model.safetensors").read_bytes() == (
        whole / "model/model.safetensors"
    ).read_bytes()
    assert not (folder / "checkpoints").exists()


def test_a_finished_run_started_again_changes_no_file(whole):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.name != ".lock"}
    assert run(whole)["status"] == "finished"
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.name != ".lock"} == before


CHANGES = {"processes": 2, "threads": 3, "sharding": "fsdp2", "max_tokens": 999, "eval_max_tokens": 999}


@pytest.mark.parametrize("field", CHANGES)
def test_each_condition_is_named(field, tmp_path):
    folder, config = RunFolder(tmp_path), run_from_dict(REAL)
    resume_checks.refuse_other_conditions(folder, config, "cpu", writes=True)
    other = run_from_dict({**REAL, field: CHANGES[field]})
    resume_checks.refuse_other_conditions(folder, other, "cpu", writes=False)  # nothing is sealed yet
    (folder.checkpoints / "step-00000003").mkdir()
    (folder.checkpoints / "step-00000003" / "seal.json").write_text("{}")
    resume_checks.refuse_other_conditions(folder, config, "cpu", writes=True)
    with pytest.raises(UserError, match=f"{field}: .* -> {CHANGES[field]!r}"):
        resume_checks.refuse_other_conditions(folder, other, "cpu", writes=True)


def test_another_device_or_version_is_named(tmp_path, monkeypatch):
    folder, config = RunFolder(tmp_path), run_from_dict(REAL)
    resume_checks.refuse_other_conditions(folder, config, "cpu", writes=True)
    (folder.checkpoints / "step-00000003").mkdir()
    (folder.checkpoints / "step-00000003" / "seal.json").write_text("{}")
    with pytest.raises(UserError, match="device: 'cpu' -> 'cuda'"):
        resume_checks.refuse_other_conditions(folder, config, "cuda", writes=True)
    monkeypatch.setattr(environment, "version", lambda name: "0.1")
    with pytest.raises(UserError, match=r"versions\.accelerate: .* -> '0\.1'"):
        resume_checks.refuse_other_conditions(folder, config, "cpu", writes=True)


def test_a_disk_that_is_full_at_any_moment_loses_nothing(whole, tmp_path):
    """Room for ever more of the run: it stops with a sentence, and with enough room ends in the same bits."""
    if os.geteuid():
        pytest.skip("only root can mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(disk)]
    if subprocess.run(mounted, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    final = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    failures = []
    try:
        for room in (16_000, 2 * final, 3 * final, 4 * final, 5 * final, 20 * final):
            subprocess.run(["mount", "-o", f"remount,size={room}", str(disk)], check=True)
            try:
                run(disk / "run", tmp_path / "cache")
                break
            except RunFailed as error:
                failures.append(str(error))
        assert len(failures) >= 3, failures
        assert all("start the same command again" in failure for failure in failures)
        manifest = json.loads((disk / "run" / "manifest.json").read_text())
        assert manifest["scores"] == json.loads((whole / "manifest.json").read_text())["scores"]
        weights = [(folder / "model/model.safetensors").read_bytes() for folder in (disk / "run", whole)]
        assert weights[0] == weights[1]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_finished_run_has_no_failure_of_an_earlier_try(tmp_path):
    """Another start may report the try before this one as killed while this one trains."""
    folder = tmp_path / "run"
    take = Engine.take_step

    def taking(training, step):
        (folder / "failure.txt").write_text("killed by SIGKILL\n")
        return take(training, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "take_step", taking)
        run(folder)
    assert (folder / "manifest.json").exists()
    assert not (folder / "failure.txt").exists()
