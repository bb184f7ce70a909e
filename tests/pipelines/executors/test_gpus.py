"""Runs side by side on a machine with GPUs: each gets its own. What torch makes of it is not tested."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.ablation.cell import Cell
from pipelines.distributed.stop import StopRequest
from pipelines.executors import gpus as devices
from pipelines.executors import local
from pipelines.executors.gpus import GpuPool, visible_gpus


def nvidia_smi(folder: Path, body: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("named", "found"),
    [("0,2", ("0", "2")), ("GPU-1f, GPU-2a", ("GPU-1f", "GPU-2a")), ("", ()), ("-1", ())],
)
def test_whoever_started_us_says_which_gpus_are_ours(monkeypatch, named, found):
    monkeypatch.setenv(devices.VISIBLE, named)
    assert visible_gpus() == found


@pytest.mark.parametrize(
    ("body", "found"),
    [("printf 'GPU-1f\\nGPU-2a\\n'", ("GPU-1f", "GPU-2a")), ("echo no driver; exit 9", ()), ("true", ())],
)
def test_otherwise_the_driver_says_which_there_are(monkeypatch, tmp_path, body, found):
    monkeypatch.delenv(devices.VISIBLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus() == ()  # no driver
    nvidia_smi(tmp_path, body)
    assert visible_gpus() == found


def test_the_least_used_gpus_are_dealt_out_first():
    shares = GpuPool(["a", "b", "c"])
    first, second = shares.take(2), shares.take(2)
    assert first == ("a", "b")
    assert second == ("c", "a")
    shares.give_back(first)
    assert shares.take(1) == ("b",)
    assert GpuPool([]).take(2) == ()


class Child:
    """A process that ends when it is looked at for the second time; it notes who else is at work."""

    at_work: dict[str, tuple[str, ...]] = {}  # noqa: RUF012
    seen: list[dict[str, tuple[str, ...]]] = []  # noqa: RUF012

    def __init__(self, target, args, name):
        self.name, self.gpus, self.sentinel, self.looks = name, args[1], None, 0

    def start(self):
        Child.at_work[self.name] = self.gpus
        Child.seen.append(dict(Child.at_work))

    @property
    def exitcode(self):
        self.looks += 1
        if self.looks < 3:
            return None
        Child.at_work.pop(self.name, None)
        return 0


@pytest.mark.parametrize(
    ("jobs", "processes", "side_by_side", "runs_on_a_gpu"),
    [(None, 1, 3, 1), (None, 2, 1, 1), (6, 1, 6, 2), (2, 1, 2, 1), (None, 5, 1, 1)],
)
def test_runs_share_no_gpu_unless_they_are_asked_to(
    monkeypatch, tmp_path, jobs, processes, side_by_side, runs_on_a_gpu
):
    monkeypatch.setenv(devices.VISIBLE, "a,b,c")
    monkeypatch.setattr(local, "_fork_server", lambda cells: SimpleNamespace(Process=Child))
    monkeypatch.setattr(local, "wait", lambda sentinels, timeout: None)
    monkeypatch.setattr(Child, "at_work", {})
    monkeypatch.setattr(Child, "seen", [])
    config = {"threads": 1, "processes": processes}
    cells = [Cell("toy", "stock", seed, config, "0", tmp_path / str(seed), tmp_path) for seed in range(8)]
    ended = []
    executor = local.LocalExecutor(jobs)
    executor.run(cells, stop=StopRequest(), on_outcome=lambda cell, outcome: ended.append(outcome.status))
    assert ended == ["finished"] * 8
    assert max(map(len, Child.seen)) == side_by_side
    for at_work in Child.seen:
        used = [gpu for gpus in at_work.values() for gpu in gpus]
        assert max(map(used.count, used)) <= runs_on_a_gpu
        assert all(len(set(gpus)) == len(gpus) == min(processes, 3) for gpus in at_work.values())


def test_a_run_sees_its_own_gpus_alone_and_the_environment_of_now(monkeypatch):
    """The fork server may be older than a variable: its children would be other runs than those planned."""

    class Left(BaseException):
        pass

    def leave(code):
        raise Left

    seen = []
    monkeypatch.setattr(os, "environ", {devices.VISIBLE: "a,b", "OLDER": "gone"})
    monkeypatch.setattr(local.signal, "signal", lambda *_: None)
    monkeypatch.setattr(local.os, "setsid", lambda: None)
    monkeypatch.setattr(local, "leave_with_parent", lambda: None)
    monkeypatch.setattr(local, "run_cell", lambda cell: seen.append(dict(os.environ)) or 0)
    monkeypatch.setattr(local.os, "_exit", leave)
    with pytest.raises(Left):
        local.run_in_child(None, ("b",), {"ATTNLAB_MIRROR": "/m"})
    assert seen == [{"ATTNLAB_MIRROR": "/m", devices.VISIBLE: "b"}]
