"""CPU seconds from a command to its answer, against an empty Python program and a budget."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
from pathlib import Path

from scripts.benchmarks.table import Table, with_range

REPOSITORY = Path(__file__).parents[2]
REPETITIONS = 7
EXIT_USER = 2  # of a command that answers that there is no such run
ATTNLAB = [sys.executable, "-m", "pipelines"]
CASES: dict[str, tuple[list[str], float | None]] = {  # the command and its budget in CPU seconds
    "a bare Python": ([sys.executable, "-c", "pass"], None),
    "attnlab --help": ([*ATTNLAB, "--help"], 0.3),
    "attnlab ls variants": ([*ATTNLAB, "ls", "variants"], None),
    "attnlab validate quickstart": ([*ATTNLAB, "validate", "configs/quickstart.yaml"], 0.6),
    "attnlab predict, no such run": ([*ATTNLAB, "predict", "no-such-run", "--input", "lines.txt"], 0.3),
    "import torch, transformers' BERT": (
        [sys.executable, "-c", "import torch; from transformers.models.bert import modeling_bert"],
        None,
    ),
}


def run() -> Table:
    """Time the commands that must answer at once: they may import neither torch nor transformers."""
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(REPETITIONS):  # in turns, so that a busy machine slows all of them alike
        for name, (command, _budget) in CASES.items():
            times[name].append(cpu_seconds(command))
    bare = statistics.median(times["a bare Python"])
    rows, records = [], []
    for name, (_, budget) in CASES.items():
        median = statistics.median(times[name])
        met = None if budget is None else median <= budget
        verdict = "–" if budget is None else f"{budget} {'met' if met else 'MISSED'}"
        rows.append((name, with_range(times[name]), f"{median / bare:.1f}x", verdict))
        records.append({"what": name, "cpu_seconds": times[name], "budget": budget, "met": met})
    columns = ("what", "CPU seconds, median (range)", "over a bare Python", "budget")
    return Table(columns, rows, records, all_met=all(record["met"] is not False for record in records))


def cpu_seconds(command: list[str]) -> float:
    """Return the user and system time of one command, its children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, cwd=REPOSITORY)
    if done.returncode not in (0, EXIT_USER):
        raise SystemExit(done.stderr.decode())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)
