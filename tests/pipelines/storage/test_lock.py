"""One writer per folder, and the lock dies with its holder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from pipelines.distributed.stop import EXIT_INTERRUPTED, listening
from pipelines.storage import lock as locks
from pipelines.storage.lock import Busy, is_held, lock

# argv: the file, "wait" or "refuse", the machine; locks that expire after a second instead of a minute.
SHORT = """
import os, socket, sys, time
from pathlib import Path
from pipelines.storage import lock as locks
locks.LEASE_SECONDS, locks.HEARTBEAT_SECONDS = 1.0, 0.1
if sys.argv[3] != "here":
    socket.gethostname = lambda: sys.argv[3]
"""
HOLD = f"""{SHORT}
def lost():
    print("lost", flush=True)
    os._exit(76)
with locks.lock(Path(sys.argv[1]), wait=sys.argv[2] == "wait", on_loss=lost):
    print("held", flush=True)
    time.sleep(60)
"""
COUNT = f"""{SHORT}
counter = Path(sys.argv[1]).with_name("counter")
for _ in range(20):
    with locks.lock(Path(sys.argv[1]), wait=True):
        count = int(counter.read_text())
        time.sleep(0.001)
        counter.write_text(str(count + 1))
"""
ASK_TWICE = """
import os, signal, time
from pipelines.distributed.stop import listening
with listening():
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""


def hold(path, if_taken, machine="here"):
    command = [sys.executable, "-c", HOLD, str(path), if_taken, machine]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def held(path, if_taken, machine):
    """A process that holds the lock, as one of another machine where `machine` is not "here"."""
    child = hold(path, if_taken, machine)
    assert child.stdout.readline() == "held\n"
    return child


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    """This process, too, lets a lock expire after a second."""
    monkeypatch.setattr(locks, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(locks, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.05)


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


def test_a_live_holder_on_another_machine_keeps_it_for_longer_than_a_lease(tmp_path):
    path = tmp_path / ".lock"
    child = held(path, "refuse", "elsewhere")
    try:
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            with pytest.raises(Busy, match=f"process {child.pid} on elsewhere"), lock(path):
                pass
            assert is_held(path)
            time.sleep(0.1)
    finally:
        child.kill()
        child.wait()


def test_a_holder_that_died_on_another_machine_is_followed_after_a_lease_and_not_before(tmp_path):
    path = tmp_path / ".lock"
    child = held(path, "refuse", "elsewhere")
    child.kill()
    child.wait()
    begun = time.monotonic()
    with lock(path, wait=True):
        assert time.monotonic() - begun > 0.9
    child = held(path, "refuse", "elsewhere")
    child.kill()
    child.wait()
    time.sleep(0.5)  # silent for three beats by now
    with lock(path):  # waits until that is sure, although it was not told to wait
        pass


def test_a_holder_that_stood_still_learns_that_it_was_followed(tmp_path):
    path = tmp_path / ".lock"
    child = held(path, "refuse", "elsewhere")
    child.send_signal(signal.SIGSTOP)
    with lock(path, wait=True):
        child.send_signal(signal.SIGCONT)
        assert child.stdout.readline() == "lost\n"
        assert child.wait() == 76
        assert is_held(path)


def test_processes_of_two_machines_never_hold_it_at_once(tmp_path):
    """Five count to 100 together, reading and writing a file under the lock."""
    (tmp_path / "counter").write_text("0")
    machines = ["here", "here", "elsewhere", "elsewhere", "third"]
    command = [sys.executable, "-c", COUNT, str(tmp_path / ".lock"), "wait"]
    counting = [subprocess.Popen([*command, machine]) for machine in machines]
    assert [child.wait(timeout=120) for child in counting] == [0] * 5
    assert (tmp_path / "counter").read_text() == "100"


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
