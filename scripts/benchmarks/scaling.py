"""The gain of a second process: one run on two processes, two runs side by side, one run alone."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from pipelines.distributed.launch import free_port
from scripts.benchmarks.cases import Case, cases
from scripts.benchmarks.table import Table, with_range

TURNS = 3
CASE, BATCH_SIZE = "NER, MiniLM, batch 8", 8
ARRANGEMENTS = {"one run alone": 1, "one run on two processes": 2, "two runs side by side": 2}
STEPS = 4


@dataclasses.dataclass(frozen=True)
class Took:
    """Seconds that one process took for a turn of `STEPS` steps."""

    wall: float
    cpu: float
    optimizer: float  # CPU, inside `cpu`
    model: float  # CPU of forward and backward alone, the same steps again without exchange of gradients

    @property
    def rest(self) -> float:
        """CPU seconds of exchanging gradients (with several processes), clipping and bookkeeping."""
        return self.cpu - self.optimizer - self.model


def run() -> Table:
    """Measure examples per second and the parts of a step's CPU seconds; arrangements take turns."""
    [case] = [one for one in cases() if one.name == CASE]
    took: dict[str, list[list[Took]]] = {name: [] for name in ARRANGEMENTS}
    with tempfile.TemporaryDirectory() as folder:
        groups = {name: _start(case, name, Path(folder)) for name in ARRANGEMENTS}
        for turn in range(-1, TURNS):  # the first is a warm-up
            for name, workers in groups.items():
                for worker in workers:
                    worker.send(turn + 1)
                found = [worker.recv() for worker in workers]
                if turn >= 0:
                    took[name].append(found)
        for workers in groups.values():
            for worker in workers:
                worker.send(None)
    load = os.getloadavg()[0]
    return _table(took, load)


def _table(took: Mapping[str, Sequence[Sequence[Took]]], load: float) -> Table:
    alone, gain, rows, records = [turn[0].cpu for turn in took["one run alone"]], {}, [], []
    for name, turns in took.items():
        runs = 2 if name == "two runs side by side" else 1
        examples = runs * BATCH_SIZE * STEPS
        wall = [examples / max(one.wall for one in turn) for turn in turns]
        # Free of what else the machine does: CPU seconds of the slowest process, which the others wait for.
        ratios = [runs * base / max(one.cpu for one in turn) for base, turn in zip(alone, turns, strict=True)]
        parts = [
            [sum(getattr(one, part) for one in turn) / examples for turn in turns]
            for part in ("cpu", "model", "optimizer", "rest")
        ]
        gain[name] = statistics.median(ratios)
        rows.append((name, *map(with_range, (wall, ratios, *parts))))
        records.append({"what": name, "turns": [[dataclasses.asdict(one) for one in turn] for turn in turns]})
    columns = (
        "what",
        "examples per second, as it was",
        "work over one alone, had every process a core",
        "CPU seconds per example, all processes",
        "forward, backward",
        "optimizer",
        "exchange and the rest",
    )
    shared, apart = gain["one run on two processes"], gain["two runs side by side"]
    advice = (
        f"Load average {load:.1f} on {os.cpu_count()} cores. Two processes do {shared:.2g} times the work "
        f"of one, two runs side by side {apart:.2g} times: for a grid, give the cores to runs (--jobs); give "
        "a run several processes when there are more cores than runs, or when it does not fit into one."
    )
    return Table(columns, rows, records, notes=(advice,))


def _start(case: Case, name: str, folder: Path) -> list[Connection]:
    """Start the processes of one arrangement; each sets up and waits for its turns."""
    context, connections = multiprocessing.get_context("spawn"), []
    shared = name == "one run on two processes"
    if shared:
        case = dataclasses.replace(case, overrides=(*case.overrides, "processes=2", "device=cpu"))
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    for number in range(ARRANGEMENTS[name]):
        ours, theirs = context.Pipe()
        rank = address | {"RANK": str(number), "LOCAL_RANK": str(number)} if shared else {}
        place = folder / name.replace(" ", "-") / str(0 if shared else number)
        context.Process(target=_work, args=(theirs, case, place, rank), daemon=True).start()
        connections.append(ours)
    return connections


def _work(connection: Connection, case: Case, folder: Path, rank: Mapping[str, str]) -> None:
    os.environ |= rank
    from scripts.benchmarks import ours

    training = ours.build(case, folder)
    spent = [0.0]
    step = training.engine.optimizer.step

    def timed_step() -> None:
        begun = time.process_time()
        step()
        spent[0] += time.process_time() - begun

    training.engine.optimizer.step = timed_step
    mine = training.accelerator.process_index
    while (turn := connection.recv()) is not None:
        spent[0], wall = 0.0, time.perf_counter()
        _, cpu = ours.take_steps(training, turn * STEPS, STEPS)
        wall, begun = time.perf_counter() - wall, time.process_time()
        for number in range(turn * STEPS, (turn + 1) * STEPS):
            training.engine.accumulate(number, training.plan.step(number).micro_batches[mine], exchange=False)
            training.engine.optimizer.zero_grad()
        connection.send(Took(wall, cpu, spent[0], time.process_time() - begun))
