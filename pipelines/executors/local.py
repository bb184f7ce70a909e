"""Run cells side by side on this machine, each in a child of one fork server that has done the imports."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, ForkServerProcess

from pipelines.ablation.at_url import is_at_work
from pipelines.ablation.cell import Cell, OnOutcome, Outcome, costs_nothing, run_cell_commands
from pipelines.distributed.stop import EXIT_BUSY, SIGNALS, StopRequest, leaving_at_once
from pipelines.executors import cancellation
from pipelines.executors.gpus import VISIBLE, GpuPool, visible_gpus
from pipelines.executors.others import OtherCommands
from pipelines.executors.worker import limit_threads, outcome_by, run_cell

SECONDS_BETWEEN_LOOKS = 1.0
SERVER_KILLED = 255  # what multiprocessing reports of a child whose fork server is gone


class LocalExecutor:
    """Runs `jobs` cells at a time as children of this process, each on GPUs of its own if there are enough.

    Args:
        jobs: cells side by side; None: as many as the GPUs allow, or one per core on a machine without GPUs.
        say: called with sentences for the user.
    """

    when_stopped = "start the same command again to resume"

    prepare = staticmethod(run_cell_commands)
    price = staticmethod(costs_nothing)

    def __init__(self, jobs: int | None = None, say: Callable[[str], None] = lambda _: None) -> None:
        self.gpus, self.jobs, self.others = visible_gpus(), jobs, OtherCommands(say)
        self.at_a_time = jobs or len(self.gpus) or os.cpu_count() or 1

    def get_ready(self, cells: Sequence[Cell]) -> None:
        """Start the fork server; its imports take seconds, in which other things can be done."""
        _fork_server(cells)
        start_fork_server()

    def run(self, cells: Sequence[Cell], *, stop: StopRequest, on_outcome: OnOutcome) -> None:
        """Run every cell; when a stop is requested, ask the running ones to stop too."""
        context = _fork_server(cells)
        at_a_time, pool = self._at_a_time(cells), GpuPool(self.gpus)
        waiting = deque(cells)
        running: dict[ForkServerProcess, tuple[Cell, tuple[str, ...]]] = {}  # with its GPUs
        asked_to_stop: set[ForkServerProcess] = set()
        while waiting or running:
            if stop.requested or cancellation.is_cancelled(cells[0].ablation):
                for cell in waiting:
                    on_outcome(cell, Outcome("interrupted", "not started"))
                waiting.clear()
            if stop.requested:
                _terminate(running.keys() - asked_to_stop)  # a second signal would end a run at once
                asked_to_stop |= running.keys()
            for _ in range(min(len(waiting), at_a_time - len(running))):
                cell = waiting.popleft()
                if is_at_work(cell):  # another process: look again later
                    self.others.tell(cell)
                    waiting.append(cell)
                    continue
                gpus = pool.take(cell.config["processes"])
                child = context.Process(
                    target=run_in_child, args=(cell, gpus, dict(os.environ)), name=cell.label
                )
                try:
                    start_fork_server()
                    child.start()
                except (EOFError, ConnectionError):  # it was killed meanwhile
                    pool.give_back(gpus)
                    on_outcome(cell, outcome_by(cell, SERVER_KILLED, _killer(SERVER_KILLED)))
                    continue
                running[child] = cell, gpus
            wait([child.sentinel for child in running], timeout=SECONDS_BETWEEN_LOOKS)
            for child, code in [(child, child.exitcode) for child in running]:
                if code is None:
                    continue
                cell, gpus = running.pop(child)
                pool.give_back(gpus)
                if code == EXIT_BUSY:
                    waiting.append(cell)
                else:
                    on_outcome(cell, outcome_by(cell, code, _killer(code)))

    def _at_a_time(self, cells: Sequence[Cell]) -> int:
        """Return the number of cells side by side; without `jobs`, no two of them share a GPU."""
        if self.jobs or not self.gpus:
            return self.at_a_time
        return max(1, len(self.gpus) // max(cell.config["processes"] for cell in cells))


def _fork_server(cells: Sequence[Cell]) -> ForkServerContext:
    limit_threads(max(cell.config["threads"] for cell in cells))  # the server does the imports
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pipelines.runs.preload"])
    return context


def start_fork_server() -> None:
    """Start the fork server unless it runs, with all stop signals blocked.

    Ctrl-C, a closed terminal and `timeout` signal the whole group of this process. The fork server must
    outlive them to report how the runs ended. Its children inherit the blocked signals, so that none is lost
    before `run_in_child` listens.
    """
    resource_tracker.ensure_running()  # its own start would unblock some of them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_in_child(cell: Cell, gpus: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a cell on its GPUs as the body of a child process, and exit with its status.

    Args:
        environment: of the ablation now; the fork server has that of its own start, which may be older.
    """
    os.environ.clear()
    os.environ.update(environment)
    if gpus:
        os.environ[VISIBLE] = ",".join(gpus)  # CUDA reads it at its first use, which comes later
    os.setsid()  # a signal to the group reaches this process once, as SIGTERM from the parent
    leave_with_parent()
    with leaving_at_once():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        code = run_cell(cell)
    sys.stdout.flush()
    os._exit(code)  # cleaning up the imports of the server would take a second and free nothing


def leave_with_parent() -> None:
    """Ask this process to stop (SIGTERM) when the fork server or the ablation is gone: nobody sees it end."""
    server, ablation = os.getppid(), multiprocessing.parent_process()
    assert ablation is not None, "called in a child only"

    def watch() -> None:
        while os.getppid() == server and not wait([ablation.sentinel], timeout=SECONDS_BETWEEN_LOOKS):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="parent").start()


def _terminate(children: Iterable[ForkServerProcess]) -> None:
    for child in children:
        if child.pid is not None:
            os.kill(child.pid, signal.SIGTERM)


def _killer(code: int) -> str | None:
    if code == SERVER_KILLED:
        return "the end of its fork server"
    return signal.Signals(-code).name if code < 0 else None
