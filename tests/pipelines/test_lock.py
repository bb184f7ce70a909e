"""One writer per folder, and the lock dies with its holder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from pipelines.interruption import EXIT_INTERRUPTED, listening
from pipelines.lock import Busy, lock

HOLD = """
import sys, time
from pathlib import Path
from pipelines.lock import lock
with lock(Path(sys.argv[1]), wait=sys.argv[2] == "wait"):
    print("held", flush=True)
    time.sleep(60)
"""
ASK_TWICE = """
import os, signal, time
from pipelines.interruption import listening
with listening():
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""


def hold(path, if_taken):
    command = [sys.executable, "-c", HOLD, str(path), if_taken]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def holder(tmp_path):
    path = tmp_path / "run" / ".lock"
    child = hold(path, "refuse")
    assert child.stdout.readline() == "held\n"
    yield path, child
    child.kill()
    child.wait()


def test_a_second_process_is_refused_and_told_who_holds_it(holder):
    path, child = holder
    with pytest.raises(Busy, match=f"process {child.pid} on "), lock(path):
        pass


def test_the_lock_of_a_killed_process_is_free(holder):
    path, child = holder
    child.send_signal(signal.SIGKILL)
    child.wait()
    with lock(path):
        pass


def test_a_waiting_process_gets_the_lock_when_it_is_free(holder):
    path, child = holder
    waiting = hold(path, "wait")
    time.sleep(0.3)
    assert waiting.poll() is None
    child.kill()
    assert waiting.stdout.readline() == "held\n"
    waiting.kill()
    waiting.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT])
def test_a_signal_becomes_a_request_and_handlers_come_back(number):
    before = signal.getsignal(number)
    with listening() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
        assert stop.signal_name == signal.Signals(number).name
    assert signal.getsignal(number) is before


def test_asked_twice_it_leaves_at_once():
    assert subprocess.run([sys.executable, "-c", ASK_TWICE], timeout=20).returncode == EXIT_INTERRUPTED
