"""Kill processes of a command at random moments, start it again to the end, and compare what it leaves."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

import psutil
import yaml

from pipelines.storage.temporary import SECONDS_UNUSED
from scripts.tiny_run import tiny_run

RUN = {**tiny_run(train=48, held_out=12), "max_steps": 24}
ABLATION = {"cells": {"toy": RUN}, "arms": {"stock": [], "gate": ["gate"]}, "seeds": [1]}
SECONDS_TO_LEAVE = 120
# The moment is drawn from so much of the time of an undisturbed command, from when the process is there.
SHARE = {
    "train": 0.9,
    "ablate": 0.8,
    "the fork server of ablate": 0.5,
    "a run of ablate": 0.2,
    "one rank of two": 0.9,
}
LEAST_KILLS, MOST_KILLS = 3, 6  # of one folder, before it may end
Find = Callable[[psutil.Process], list[psutil.Process]]


def _children(name: str) -> Find:
    """Return a search for the processes below a command whose command line holds `name`."""
    return lambda root: [one for one in root.children(recursive=True) if name in " ".join(one.cmdline())]


# What is killed: the command that it belongs to, and the processes of which one is drawn.
TARGETS: dict[str, tuple[str, Find]] = {
    "train": ("train", lambda root: [root]),
    "ablate": ("ablate", lambda root: [root]),
    "the fork server of ablate": ("ablate", lambda root: _children("forkserver")(root)[:1]),
    "a run of ablate": ("ablate", lambda root: _children("forkserver")(root)[1:]),
    "one rank of two": ("two ranks", lambda root: root.children()),
}


def command(kind: str, folder: Path) -> list[str]:
    """Write the settings of a kind of command into a folder, and return the command."""
    settings = {"train": RUN, "ablate": ABLATION, "two ranks": {**RUN, "processes": 2}}[kind]
    file = folder / "settings.yaml"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    words = ["ablate", str(file), "--jobs", "2"] if kind == "ablate" else ["train", str(file)]
    return [sys.executable, "-m", "attnlab", *words, "--out", str(folder / "runs" / "out")]


def start(words: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own."""
    quiet = subprocess.DEVNULL
    return subprocess.Popen(words, start_new_session=True, stdout=quiet, stderr=quiet)


def whole(root: Path, kind: str) -> tuple[Path, float]:
    """Return a folder in which a command was not disturbed, and the seconds that it took."""
    folder = root / f"undisturbed {kind}"
    if not (folder / "seconds").exists():
        folder.mkdir(exist_ok=True)
        begun = time.monotonic()
        assert start(command(kind, folder)).wait() == 0, folder
        (folder / "seconds").write_text(str(time.monotonic() - begun))
    return folder, float((folder / "seconds").read_text())


def struck(folder: Path, draw: random.Random, target: str, undisturbed: Path, seconds: float) -> dict:
    """Kill one target up to `MOST_KILLS` times, then let the command end; return what came of it."""
    kind, find = TARGETS[target]
    words = command(kind, folder)
    kills, outlived = 0, 0
    for _ in range(draw.randrange(LEAST_KILLS, MOST_KILLS + 1)):
        process = start(words)
        _wait_for(process, find)
        deadline = time.monotonic() + draw.uniform(0, SHARE[target] * seconds)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        below, found = _below(process), _found(process, find)
        if found:
            draw.choice(found).kill()
            kills += 1
        outlived += not _all_leave(process, below)
    age(folder)
    status = start(words).wait()
    return {
        "case": target,
        "kills": kills,
        "outlived": outlived,
        "status": status,
        "same": status == 0 and content(folder) == content(undisturbed),
        "left": sorted(names(folder) ^ names(undisturbed)),
    }


def _wait_for(process: subprocess.Popen[bytes], find: Find) -> None:
    """Wait until a command has the processes of a target, or has ended."""
    while process.poll() is None and not _found(process, find):
        time.sleep(0.02)


def _found(process: subprocess.Popen[bytes], find: Find) -> list[psutil.Process]:
    try:
        return find(psutil.Process(process.pid)) if process.poll() is None else []
    except psutil.Error:  # one ended while it was looked at
        return []


def _below(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return _found(process, lambda root: root.children(recursive=True))


def _all_leave(process: subprocess.Popen[bytes], below: Sequence[psutil.Process]) -> bool:
    """Wait for a command and the processes below it; return whether they left by themselves."""
    deadline = time.monotonic() + SECONDS_TO_LEAVE
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    while (alive := [one for one in below if _is_alive(one)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for one in alive:
        one.kill()
    if hangs := process.poll() is None:
        process.kill()
        process.wait()
    return not alive and not hangs


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def age(folder: Path) -> None:
    """Make what a kill has left half-written as old as if the next start came a minute later."""
    past = time.time() - SECONDS_UNUSED - 1
    for path in folder.rglob(".*.tmp"):
        for part in (path, *path.rglob("*")):
            os.utime(part, (past, past))


def names(folder: Path) -> set[str]:
    """Return the files below a folder, without what differs from start to start."""
    return {str(path.relative_to(folder / "runs")) for path in (folder / "runs").rglob("*") if path.is_file()}


def content(folder: Path) -> dict[str, object]:
    """Return all that must not depend on kills: weights, predictions, statistics, losses, comparisons."""
    found: dict[str, object] = {}
    for path in sorted((folder / "runs").rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix in (".safetensors", ".parquet") or path.name.startswith("predictions."):
            found[name] = path.read_bytes()
        elif path.name == "metrics.jsonl":
            found[name] = [_without_times(json.loads(line)) for line in path.read_text().splitlines()]
        elif path.name == "results.json":
            rows = json.loads(path.read_text())["comparisons"]
            found[name] = [
                [row[key] for key in ("arm", "difference", "ci95", "p", "verdict")] for row in rows
            ]
    return found


def _without_times(event: dict) -> dict:
    return {key: value for key, value in event.items() if "seconds" not in key}


def rows(case: Callable[..., dict], root: Path, times: int) -> Iterator[tuple[str, object, str, bool]]:
    """Yield the lines of the table: at least `times` kills, of each target in turn.

    Args:
        case: runs `struck` in an empty folder, unless it is recorded (`Diary.case`).
    """
    entries: dict[str, list[dict]] = {target: [] for target in TARGETS}
    for number, target in ((number, target) for number in count() for target in TARGETS):
        if sum(entry["kills"] for found in entries.values() for entry in found) >= times:
            break
        kind = TARGETS[target][0]
        happened = case(f"command {target}", number, struck, target, *whole(root, kind))
        entries[target].append(happened)
    for target, found in entries.items():
        kills, stay = (sum(entry[name] for entry in found) for name in ("kills", "outlived"))
        same, clean = sum(entry["same"] for entry in found), sum(not entry["left"] for entry in found)
        said = f"{same} of {len(found)} end in the same bits, {clean} without a file left over; {stay} hang"
        yield f"SIGKILL of {target}", kills, said, same == clean == len(found) and not stay
