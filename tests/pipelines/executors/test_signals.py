"""Signals to an ablation's processes: one line, exit status 75, and no run that works on unseen."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from pipelines.distributed import stop
from pipelines.storage.lock import is_held
from pipelines.storage.names import SEAL
from tests.conftest import REPOSITORY
from tests.pipelines.ablation.test_ablation import TINY
from tests.pipelines.waiting import SECONDS, children, wait_for


@pytest.fixture(autouse=True)
def started():
    """The processes that a test has started; their groups are killed after it."""
    started: list[subprocess.Popen] = []
    yield started
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def start(started, tmp_path: Path) -> subprocess.Popen:
    cell = TINY["cells"]["toy"][0] | {"num_epochs": 2000, "checkpoint_every_steps": 10_000}
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(TINY | {"cells": {"toy": [cell]}, "arms": {"stock": []}, "seeds": [1]}))
    out = tmp_path / "runs" / "toy"
    with open(tmp_path / "said", "w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines", "ablate", str(file), "--out", str(out), "--jobs", "1"],
            cwd=REPOSITORY,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    started.append(process)
    return process


def said(tmp_path: Path) -> str:
    return (tmp_path / "said").read_text()


def is_training(tmp_path: Path) -> list[Path]:
    return list(tmp_path.glob("runs/cells/*/metrics.jsonl"))


def fork_server(process: subprocess.Popen) -> int | None:
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in children(process)}
    return next((int(pid) for pid, line in lines.items() if "forkserver" in line), None)


def has_torch(pid: int) -> bool:
    """Whether a process has loaded the library, which it does in the middle of its imports."""
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()


def assert_left_with_a_checkpoint(tmp_path: Path) -> None:
    """Wait until no process holds the run, and check that it was saved and not finished."""
    [run] = (tmp_path / "runs" / "cells").iterdir()
    deadline = time.monotonic() + SECONDS
    while is_held(run / ".lock"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert list(run.glob(f"checkpoints/step-*/{SEAL}"))
    assert not (run / "manifest.json").exists()


def test_ctrl_c_while_the_fork_server_imports_is_one_line_and_75(started, tmp_path):
    process = start(started, tmp_path)
    wait_for(lambda: (server := fork_server(process)) and has_torch(server), process)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=SECONDS) == 75, said(tmp_path)
    assert "Traceback" not in said(tmp_path)
    assert said(tmp_path).splitlines()[-1] == "stopped by SIGINT; start the same command again to resume"


def test_ctrl_c_before_the_first_run_is_one_line_and_75(tmp_path):
    """The command is replaced by one that gets the signal, because its imports take their time."""
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(TINY))
    code = (
        "import os, signal, sys, types\n"
        "stand_in = types.ModuleType('stand_in')\n"
        "stand_in.ablate_command = lambda *_, **__: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.modules['pipelines.actions.ablate'] = stand_in\n"
        "from pipelines.cli.main import main\n"
        f"main(['ablate', {str(tmp_path / 'mine.yaml')!r}, '--out', 'out'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 75, done.stderr
    assert done.stderr == "stopped; to resume, start the same command again\n"


def test_a_closed_terminal_saves_and_leaves(started, tmp_path):
    process = start(started, tmp_path)
    wait_for(lambda: is_training(tmp_path), process)
    for _ in range(2):  # from the shell and from the kernel
        os.killpg(process.pid, signal.SIGHUP)
    assert process.wait(timeout=SECONDS) == 75, said(tmp_path)
    assert "stopped by SIGHUP" in said(tmp_path)
    assert_left_with_a_checkpoint(tmp_path)


@pytest.mark.parametrize("killed", ["fork server", "ablation"])
def test_a_run_leaves_when_nobody_would_see_it_end(started, tmp_path, killed):
    process = start(started, tmp_path)
    wait_for(lambda: is_training(tmp_path), process)
    is_server = killed == "fork server"
    os.kill(fork_server(process) if is_server else process.pid, signal.SIGKILL)
    assert process.wait(timeout=SECONDS) == (1 if is_server else -signal.SIGKILL), said(tmp_path)
    assert_left_with_a_checkpoint(tmp_path)
    assert ("killed by the end of its fork server; start the same" in said(tmp_path)) == is_server


def test_a_hangup_that_nohup_ignores_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop.listening() as request:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not request.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_hangup_is_no_haste_and_the_terminal_is_left(monkeypatch):
    left = []
    monkeypatch.setattr(stop, "leave_terminal", lambda: left.append(True))
    with stop.listening() as request:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
    assert request.signal_name == "SIGHUP"
    assert left == [True, True]


def test_output_for_a_terminal_that_is_gone_goes_nowhere():
    parent, child = os.openpty()
    code = (
        "from pipelines.distributed.stop import leave_terminal\n"
        "input(); leave_terminal(); print('x', flush=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=child, stderr=child
    )
    os.close(child)
    os.close(parent)  # the terminal is gone: a write to it fails
    process.communicate(b"\n", timeout=SECONDS)
    assert process.returncode == 0
