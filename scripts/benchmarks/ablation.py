"""An ablation, 2 arms x 3 seeds on NER and QA, against a loop over scripts: wall clock and CPU seconds.

The runs are short, so that this takes minutes: 160 sentences and 48 questions, an epoch of each, with their
evaluation. Scripts run one after the other with the threads they take by default. Two of the six of each
task are run, one before and one after ours, and counted three times: they differ in the seed alone.
"""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from scripts.benchmarks.cases import CONFIGS, REPOSITORY, mirror
from scripts.benchmarks.table import Comparison, Table, compared

ROWS = {"ner": (160, 100), "qa": (48, 24)}  # training, validation
TASKS = {"ner": "task/ner-btc.yaml", "qa": "task/qa-squad.yaml"}
ARMS, SEEDS = {"stock": [], "gate": ["gate"]}, [1, 2, 3]
RUNS_PER_TASK = len(ARMS) * len(SEEDS)
PR_SET_CHILD_SUBREAPER = 36  # of Linux's prctl.h


@dataclass(frozen=True)
class Cost:
    """Seconds that a command and all its child processes took."""

    wall: float
    cpu: float


def run() -> Table:
    mirror()
    ctypes.CDLL(None).prctl(
        PR_SET_CHILD_SUBREAPER, 1
    )  # so that a fork server that outlives the command is counted
    scripts = {task: [_script(task, seed=1)] for task in TASKS}
    with tempfile.TemporaryDirectory() as folder:
        ours = _ablation(Path(folder))
        for task in TASKS:
            scripts[task].append(_script(task, seed=2))
        report = _cost([sys.executable, "-m", "pipelines", "report", f"{folder}/ablations/both"])
    loop = {
        kind: RUNS_PER_TASK * sum(getattr(cost, kind) for costs in scripts.values() for cost in costs) / 2
        for kind in ("wall", "cpu")
    }
    what = f"{len(TASKS) * RUNS_PER_TASK} runs, compared"
    return compared(
        [
            Comparison(what, "wall seconds", [ours.wall], [loop["wall"]], 1 / 5, at_least=False),
            Comparison(what, "CPU seconds", [ours.cpu], [loop["cpu"]]),
            Comparison("the report again, of all that", "CPU seconds", [report.cpu], [loop["cpu"]]),
        ]
    )


def _script(task: str, seed: int) -> Cost:
    train, validation = map(str, ROWS[task])
    script = Path(__file__).with_name("plain_script.py")
    options = [task, "--train", train, "--validation", validation, "--seed", str(seed)]
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in threads}
    # -P: without it torch would import the statistics.py beside the script instead of Python's own.
    return _cost([sys.executable, "-P", str(script), *options], environment)


def _ablation(folder: Path) -> Cost:
    cells = {}
    for task, file in TASKS.items():
        train, validation = ROWS[task]
        rows = {"max_train_examples": train, "max_validation_examples": validation, "max_test_examples": 1}
        _write(folder / f"{task}.yaml", {"num_epochs": 1, "data": rows})
        cells[task] = [str(CONFIGS / file), str(CONFIGS / "model/minilm.yaml"), f"{task}.yaml"]
    _write(folder / "both.yaml", {"cells": cells, "arms": ARMS, "seeds": SEEDS})
    command = [sys.executable, "-m", "pipelines", "ablate", f"{folder}/both.yaml"]
    return _cost([*command, "--out", f"{folder}/ablations/both"])


def _write(path: Path, content: dict) -> None:
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


def _cost(command: Sequence[str], environment: dict[str, str] | None = None) -> Cost:
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=REPOSITORY, env=environment)
    wall = time.perf_counter() - begun
    while _leftover():
        pass
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall, (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime))


def _leftover() -> bool:
    """Wait for a process that the command left running; return whether there was one."""
    try:
        os.wait()
    except ChildProcessError:
        return False
    return True
