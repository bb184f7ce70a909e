"""Two implementations of one job, each in its own process, in turns: a busy machine slows both alike."""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from scripts.benchmarks import cases
from scripts.benchmarks.cases import Case

Turn = Callable[[int], float]  # runs turn number n and returns the measurement
Build = Callable[[Case, Path], Turn]  # sets the job up in an empty folder


@dataclass
class Measured:
    """The measurement of each turn, and the peak resident memory of each process in bytes."""

    ours: list[float] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)
    peak_ours: int = 0
    peak_reference: int = 0


def take_turns(case: Case, ours: Build, reference: Build, turns: int) -> Measured:
    """Run so many turns of each implementation, attnlab's first, after the set-up of both."""
    measured, turns = Measured(), cases.turns or turns
    with tempfile.TemporaryDirectory() as folder:
        workers = [_Worker(case, build, Path(folder) / build.__module__) for build in (ours, reference)]
        for turn in range(turns):
            for worker, values in zip(workers, (measured.ours, measured.reference)):
                values.append(worker.take(turn))
        measured.peak_ours, measured.peak_reference = (worker.end() for worker in workers)
    return measured


def peak_alone(case: Case, build: Build, turns: int) -> int:
    """Return the peak resident memory of so many turns of one implementation, in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        worker = _Worker(case, build, Path(folder))
        for turn in range(turns):
            worker.take(turn)
        return worker.end()


class _Worker:
    def __init__(self, case: Case, build: Build, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, case, build, folder))
        self._process.start()

    def take(self, turn: int) -> float:
        self._connection.send(turn)
        return self._connection.recv()

    def end(self) -> int:
        self._connection.send(None)
        peak = self._connection.recv()
        self._process.join()
        return peak


def _work(connection: Connection, case: Case, build: Build, folder: Path) -> None:
    take = build(case, folder)
    while (turn := connection.recv()) is not None:
        connection.send(take(turn))
    connection.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
