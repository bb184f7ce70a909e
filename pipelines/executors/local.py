"""Cells side by side on this machine, each a child of one fork server that has the imports done."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import wait

from pipelines.ablation.cell import Cell, OnOutcome, Outcome
from pipelines.distributed.stop import EXIT_BUSY, StopRequest, leaving_at_once
from pipelines.executors import cancellation
from pipelines.executors.gpus import VISIBLE, Shares, visible_gpus
from pipelines.executors.worker import outcome_by, run_cell
from pipelines.storage.lock import is_held
from pipelines.storage.names import LOCK

SECONDS_BETWEEN_LOOKS = 1.0


class LocalExecutor:
    """Runs `jobs` cells at a time as children of this process.

    Each has the GPUs of its own processes, as far as there are that many.

    Args:
        jobs: cells side by side; None: as many as there are GPUs for, or one per core where there is none.
    """

    when_stopped = "start the same command again to go on"

    def __init__(self, jobs: int | None = None) -> None:
        self.gpus, self.jobs = visible_gpus(), jobs
        self.at_a_time = jobs or len(self.gpus) or os.cpu_count() or 1

    def run(self, cells: Sequence[Cell], *, stop: StopRequest, on_outcome: OnOutcome) -> None:
        """Run every cell; when a stop is requested, the running ones are asked to stop too."""
        context = _fork_server(max(cell.config["threads"] for cell in cells))
        at_a_time, shares = self._at_a_time(cells), Shares(self.gpus)
        waiting, running = deque(cells), {}  # by its child: a cell and its GPUs
        while waiting or running:
            if stop.requested or cancellation.is_cancelled(cells[0].ablation):
                for cell in waiting:
                    on_outcome(cell, Outcome("interrupted", "not started"))
                waiting.clear()
            if stop.requested:
                _ask_to_stop(running)
            for _ in range(min(len(waiting), at_a_time - len(running))):
                cell = waiting.popleft()
                if is_held(cell.folder / LOCK):  # by another process: look again later
                    waiting.append(cell)
                    continue
                gpus = shares.take(cell.config["processes"])
                child = context.Process(target=run_in_child, args=(cell, gpus), name=cell.label)
                child.start()
                running[child] = cell, gpus
            wait([child.sentinel for child in running], timeout=SECONDS_BETWEEN_LOOKS)
            for child in [child for child in running if child.exitcode is not None]:
                cell, gpus = running.pop(child)
                shares.give_back(gpus)
                if child.exitcode == EXIT_BUSY:
                    waiting.append(cell)
                else:
                    on_outcome(cell, outcome_by(cell, child.exitcode, _killer(child.exitcode)))

    def _at_a_time(self, cells: Sequence[Cell]) -> int:
        """Cells side by side; unless somebody said how many, no two share a GPU."""
        if self.jobs or not self.gpus:
            return self.at_a_time
        return max(1, len(self.gpus) // max(cell.config["processes"] for cell in cells))


def _fork_server(threads: int) -> multiprocessing.context.BaseContext:
    # Thread pools read these once, at import, which happens in the server.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pipelines.runs.preload"])
    return context


def run_in_child(cell: Cell, gpus: Sequence[str] = ()) -> None:
    """Body of a child process: run the cell on its GPUs, exit with its status."""
    if gpus:
        os.environ[VISIBLE] = ",".join(gpus)  # read when CUDA is used for the first time, which is to come
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent passes it on
    with leaving_at_once():
        code = run_cell(cell)
    sys.stdout.flush()
    os._exit(code)  # no clean-up of the server's imports: it costs a second and does nothing


def _ask_to_stop(running: dict) -> None:
    for child in running:
        if not getattr(child, "asked", False):
            os.kill(child.pid, signal.SIGTERM)
            child.asked = True


def _killer(code: int) -> str | None:
    return signal.Signals(-code).name if code < 0 else None
