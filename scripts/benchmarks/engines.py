"""What an engine adds to a run: seconds, and CPU, memory and file calls of who watches, two runs at a time.

A run of the first kind trains two steps of a BERT of 3,440 parameters. One of the second kind had
ended before, so that all its time is overhead. Each grid is made by the local executor, and on a Ray cluster
of two nodes of one CPU on this machine. File calls are those of the watching process that name a path below
the folder of the runs, by strace; without it they are not counted.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import yaml

from pipelines.ablation.cell import Cell, Executor, Outcome
from pipelines.ablation.folder import open_ablation
from pipelines.config.engines import RayConfig
from pipelines.distributed.stop import StopRequest
from pipelines.executors.local import LocalExecutor
from pipelines.executors.ray import RayExecutor
from scripts.benchmarks import cases
from scripts.benchmarks.cases import REPOSITORY
from scripts.benchmarks.table import Table, short
from tests.pipelines import stored_ablation
from tests.ray_cluster import RayCluster, ray_cluster

SIZES = {"trained": (20, 1000), "ended before": (100, 300, 1000)}
SLOTS = 2
TINY = {
    "task": "ner",
    "data": {"generated": {"name": "ner", "train": 16, "validation": 8, "test": 8}},
    "model": {
        "architecture": "bert",
        "family": "encoder",
        "vocab_size": 300,
        "config": {
            "hidden_size": 4,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "intermediate_size": 4,
        },
    },
    "max_steps": 2,
    "batch_size": 8,
    "device": "cpu",
}
COLUMNS = (
    *("runs", "engine", "wall, s", "a run in its slot, s", "of it its own time, s", "overhead of a run, s"),
    *("CPU of a run, s", "CPU for it here, ms", "peak here, MB", "peak of its Ray driver, MB"),
    "file calls for it here",
)


def run() -> Table:
    rows, records = [], []
    for kind, sizes in SIZES.items():
        for runs in sizes:
            for engine in ("local", "ray"):
                if cases.chosen in f"{runs} runs, {kind}, {engine}":
                    record = _measured(runs, kind, engine)
                    shown = (short(value) if value is not None else "–" for value in record.values())
                    rows.append((f"{runs:,} {kind}", engine, *shown))
                    records.append({"runs": runs, "kind": kind, "engine": engine, **record})
                    print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    return Table(COLUMNS, rows, records)


def _measured(runs: int, kind: str, engine: str) -> dict[str, float | None]:
    """Make a grid of so many runs on an engine, in a process of its own, and return what it took."""
    with tempfile.TemporaryDirectory() as temporary, _cluster(engine) as cluster:
        folder = Path(temporary).resolve()
        ablation = (_trained if kind == "trained" else _ended)(folder, runs)
        address = cluster.address if cluster else None
        code = f"from scripts.benchmarks.engines import watch; watch({str(ablation)!r}, {address!r})"
        log = folder / "calls.txt"
        trace = ["strace", "-o", str(log), "-e", "trace=%file"] if shutil.which("strace") else []
        done = subprocess.run(
            [*trace, sys.executable, "-c", code],
            cwd=REPOSITORY,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        told = json.loads(done.stdout.splitlines()[-1])
        calls = [line for line in log.read_text().splitlines() if f'"{folder}/' in line] if trace else None
        own = statistics.mean(_seconds(cell.folder) for cell in open_ablation(ablation).cells)
    own = own if kind == "trained" else 0.0
    slot = told["wall"] * SLOTS / runs
    return {
        "wall": told["wall"],
        "slot": slot,
        "own": own,
        "overhead": slot - own,
        "cpu": told["runs"] / runs,
        "here": 1000 * told["cpu"] / runs,
        "peak": told["peak"],
        "driver": told["driver"] if engine == "ray" else None,
        "calls": len(calls) / runs if calls is not None else None,
    }


@contextmanager
def _cluster(engine: str) -> Iterator[RayCluster | None]:
    if engine == "local":
        yield None
        return
    with ray_cluster() as cluster:
        yield cluster


def _trained(folder: Path, runs: int) -> Path:
    values = {"cells": {"tiny": [TINY]}, "arms": {"stock": [], "gate": ["gate"]}, "keep": "none"}
    values |= {"seeds": list(range(1, runs // 2 + 1)), "primary": {"ner": "f1"}, "margin": {"f1": 0.5}}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    out = folder / "runs" / "tiny"
    command = [sys.executable, "-m", "pipelines", "ablate", str(folder / "tiny.yaml"), "--out", str(out)]
    subprocess.run([*command, "--prepare"], cwd=REPOSITORY, check=True, capture_output=True)
    return out


def _ended(folder: Path, runs: int) -> Path:
    return stored_ablation.write(folder / "runs", seeds=range(1, runs // 2 + 1))


def _cpu_of_runs() -> float:
    """Return the CPU seconds of the runs that the fork servers of this machine have seen end."""
    total = 0.0
    for one in psutil.process_iter(["cmdline", "cpu_times"]):
        words, times = one.info["cmdline"] or [""], one.info["cpu_times"]
        if words[0] == sys.executable and "forkserver" in " ".join(words):
            total += times.children_user + times.children_system
    return total


def _seconds(run: Path) -> float:
    return json.loads((run / "manifest.json").read_text(encoding="utf-8")).get("total_seconds", 0.0)


def watch(ablation: str, address: str | None) -> None:
    """Make every run of an ablation, on a Ray cluster or here, and print what this process needed."""
    cells = open_ablation(Path(ablation)).cells
    executor: Executor = LocalExecutor(SLOTS)
    if address is not None:
        executor = RayExecutor(RayConfig(address=address), Path(ablation), lambda _: None)
    ends: list[str] = []
    reasons: list[str] = []
    runs = [_cpu_of_runs()]  # before and after

    def on_outcome(_cell: Cell, outcome: Outcome) -> None:
        ends.append(outcome.status)
        reasons.extend([outcome.reason] if outcome.status != "finished" else [])
        if len(ends) == len(cells):  # the servers of Ray end with this process
            runs.append(_cpu_of_runs())

    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    executor.run(cells, stop=StopRequest(), on_outcome=on_outcome)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    if ends != ["finished"] * len(cells):
        raise SystemExit(f"of {len(cells)} runs {ends.count('finished')} finished; {reasons[0]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    driver = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
    needed = {"cpu": cpu, "peak": after.ru_maxrss / 1000, "driver": driver, "runs": runs[-1] - runs[0]}
    print(json.dumps({"wall": wall, **needed}))
