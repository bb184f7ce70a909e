"""What an engine adds to a run: seconds of a slot, memory and file calls of `ablate`, over tiny runs.

Each grid is made twice with two runs at a time: by the local executor, and on a Ray cluster of two nodes of
one CPU on this machine. A run trains two steps of a BERT of a few hundred parameters. File calls are those of
the main process of `ablate` that name a path below the folder of the runs, by strace.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml

from pipelines.ablation.folder import open_ablation
from scripts.benchmarks import cases
from scripts.benchmarks.cases import REPOSITORY
from scripts.benchmarks.table import Table, short
from tests.ray_cluster import ray_cluster

SIZES = (100, 1000)
SLOTS = 2
RUN = {
    "task": "ner",
    "data": {"generated": {"name": "ner", "train": 16, "validation": 8, "test": 8}},
    "model": {
        "architecture": "bert",
        "family": "encoder",
        "vocab_size": 60,
        "config": {
            "hidden_size": 4,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "intermediate_size": 4,
            "max_position_embeddings": 32,
        },
    },
    "max_steps": 2,
    "batch_size": 8,
    "device": "cpu",
}
COLUMNS = (
    *("engine", "runs", "wall, s", "plan, s", "a run in its slot, s", "of it the run itself, s"),
    *("overhead of a run, s", "report, s", "ablate, MB", "its Ray driver, MB", "file calls per run"),
)


@dataclass
class Watched:
    """A command while it runs: the lines that it says, with their times, and its peaks of memory."""

    process: subprocess.Popen[str]
    lines: list[tuple[float, str]] = field(default_factory=list)
    peaks: dict[str, float] = field(default_factory=dict)  # MB, of the command and of its Ray driver

    def wait(self) -> float:
        """Return when it has ended well."""
        reader = threading.Thread(target=self._read, daemon=True)
        reader.start()
        while self.process.poll() is None:
            self._look()
            time.sleep(0.25)
        ended = time.time()
        reader.join()
        if self.process.returncode:
            raise SystemExit("\n".join(text for _, text in self.lines[-5:]))
        return ended

    def first(self, pattern: str) -> float:
        return next(at for at, text in self.lines if re.search(pattern, text))

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append((time.time(), line.rstrip()))

    def _look(self) -> None:
        with suppress(psutil.Error):
            for one in psutil.Process(self.process.pid).children(recursive=True):
                with suppress(psutil.Error, OSError, IndexError):
                    words = " ".join(one.cmdline())
                    name = "driver" if "ray_driver" in words else "ablate" if " ablate " in words else ""
                    status = Path(f"/proc/{one.pid}/status").read_text() if name else ""
                    for found in re.findall(r"VmHWM:\s+(\d+) kB", status):
                        self.peaks[name] = max(self.peaks.get(name, 0.0), int(found) / 1000)


def run() -> Table:
    if shutil.which("strace") is None:
        raise SystemExit("this benchmark counts with strace, which is not installed (apt-get install strace)")
    rows, records = [], []
    for engine, runs in ((engine, runs) for runs in SIZES for engine in ("local", "ray")):
        if cases.chosen not in f"{engine}, {runs} runs":
            continue
        with _options(engine) as options, tempfile.TemporaryDirectory() as folder:
            record = _measured(Path(folder).resolve(), runs, options)
        rows.append((engine, f"{runs:,}", *(short(value) if value else "–" for value in record.values())))
        records.append({"engine": engine, "runs": runs, **record})
        print(rows[-1], file=sys.stderr, flush=True)
    return Table(COLUMNS, rows, records)


@contextmanager
def _options(engine: str) -> Iterator[tuple[str, ...]]:
    if engine == "local":
        yield ("--executor", "local", "--jobs", str(SLOTS))
        return
    with ray_cluster() as cluster:
        yield ("--executor", "ray", f"ray.address={cluster.address}")


def _measured(folder: Path, runs: int, options: Sequence[str]) -> dict[str, float]:
    """Make a grid of so many runs, and return what it took."""
    values = {"cells": {"tiny": [RUN]}, "arms": {"stock": [], "gate": ["gate"]}, "keep": "none"}
    values |= {"seeds": list(range(1, runs // 2 + 1)), "primary": {"ner": "f1"}, "margin": {"f1": 0.5}}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    out, log = folder / "runs" / "tiny", folder / "calls.txt"
    command = [sys.executable, "-m", "pipelines", "ablate", str(folder / "tiny.yaml"), "--out", str(out)]
    trace = ["strace", "-ttt", "-o", str(log), "-e", "trace=%file"]
    began = time.time()
    watched = Watched(
        subprocess.Popen(
            [*trace, *command, *options],
            cwd=REPOSITORY,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    )
    ended = watched.wait()
    planned, last = watched.first(r" runs, 0 ended before"), watched.first(rf"^\[{runs}/{runs}\]")
    seconds = statistics.mean(_seconds(cell.folder) for cell in open_ablation(out).cells)
    slot = (last - planned) * SLOTS / runs
    calls = [float(line.split()[0]) for line in log.read_text().splitlines() if f"{folder}/runs" in line]
    return {
        "wall": ended - began,
        "plan": planned - began,
        "slot": slot,
        "run": seconds,
        "overhead": slot - seconds,
        "report": ended - last,
        "ablate": watched.peaks.get("ablate", 0.0),
        "driver": watched.peaks.get("driver", 0.0),
        "calls": sum(planned <= at <= last for at in calls) / runs,
    }


def _seconds(run: Path) -> float:
    return json.loads((run / "manifest.json").read_text(encoding="utf-8"))["total_seconds"]
