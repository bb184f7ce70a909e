"""When several ranks fail, the user reads the reason of the one that decided, and no other's."""

from __future__ import annotations

import sys
import threading

import pytest

from pipelines.distributed import launch

SCRIPT = """
import os, sys, signal
rank = int(os.environ["RANK"])
print(f"rank {rank} says why", file=sys.stderr, flush=True)
status = [int(word) for word in sys.argv[1:]][rank]
os.kill(os.getpid(), -status) if status < 0 else sys.exit(status)
"""


@pytest.mark.parametrize(
    ("ends", "status", "shown", "hidden"),
    [
        ((2, 1), 2, ["rank 0"], ["rank 1"]),  # the second lost the connection
        ((1, 2), 2, ["rank 0", "rank 1"], []),  # the first lost it, and prints as it goes
        ((1, 1), 1, ["rank 0"], ["rank 1"]),
        ((2, 2), 2, ["rank 0"], ["rank 1"]),
        ((0, 0), 0, ["rank 0"], ["rank 1"]),
        ((0, -9), 1, ["rank 0", "rank 1", "process 1 was killed by SIGKILL"], []),
        ((1, 75), 75, ["rank 0", "rank 1"], []),
    ],
    ids=str,
)
def test_one_reason_is_shown(ends, status, shown, hidden, tmp_path, monkeypatch, capfd):
    script = tmp_path / "rank.py"
    script.write_text(SCRIPT)
    start = launch.subprocess.Popen
    monkeypatch.setattr(
        launch.subprocess,
        "Popen",
        lambda command, **options: start([sys.executable, str(script), *map(str, ends)], **options),
    )
    assert launch.launch([], processes=2, threads=1) == status
    said = capfd.readouterr().err
    assert all(f"{text}" in said for text in shown)
    assert not any(text in said for text in hidden)


@pytest.mark.parametrize("dead", [0, 1, 2])
def test_a_rank_that_is_killed_takes_those_that_wait_for_it_along(dead, monkeypatch):
    """Before they are connected, no rank notices by itself that another one has died."""
    monkeypatch.setattr(launch, "SECONDS_TO_EXIT", 0.2)
    waits = [sys.executable, "-c", "import time; time.sleep(600)"]
    ranks = [launch.subprocess.Popen(waits) for _ in range(3)]
    ranks[dead].kill()
    watch = threading.Thread(target=launch._wait, args=[ranks], daemon=True)
    watch.start()
    watch.join(20)
    is_waiting = watch.is_alive()
    for rank in ranks:
        rank.kill()
    assert not is_waiting
