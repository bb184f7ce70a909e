"""Cells side by side on this machine, each a child of one fork server that has the imports done."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import wait
from pathlib import Path

from pipelines.errors import Interrupted, RunFailed, UserError
from pipelines.executors.cell import Cell, OnOutcome, Outcome
from pipelines.interruption import EXIT_INTERRUPTED, StopRequest

BUSY = 76  # another process works on the cell
EXIT_CODES = {0: "finished", 1: "failed", 2: "failed", 3: "diverged", EXIT_INTERRUPTED: "interrupted"}
SECONDS_BETWEEN_LOOKS = 1.0


def run_cells(
    cells: Sequence[Cell], *, jobs: int, threads: int, stop: StopRequest, on_outcome: OnOutcome
) -> None:
    """Run every cell, `jobs` at a time, and report each as it ends; a failure stops no other cell.

    A cell that another process works on is waited for, never run twice. When a stop is requested the
    running cells are asked to stop too, and end as "interrupted".
    """
    context = _fork_server(threads)
    waiting, running = deque(cells), {}
    while waiting or running:
        if stop.requested:
            _ask_to_stop(running, stop)
            for cell in waiting:
                on_outcome(cell, Outcome("interrupted", "not started"))
            waiting.clear()
        while waiting and len(running) < jobs:
            cell = waiting.popleft()
            child = context.Process(target=run_in_child, args=(cell,), name=cell.label)
            child.start()
            running[child] = cell
        wait([child.sentinel for child in running], timeout=SECONDS_BETWEEN_LOOKS)
        for child in [child for child in running if child.exitcode is not None]:
            cell = running.pop(child)
            if child.exitcode == BUSY:
                waiting.append(cell)
                time.sleep(SECONDS_BETWEEN_LOOKS)
            else:
                on_outcome(cell, _outcome(cell, child.exitcode))


def _fork_server(threads: int) -> multiprocessing.context.BaseContext:
    # Thread pools read these once, at import, which happens in the server.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pipelines.preload"])
    return context


def run_in_child(cell: Cell) -> None:
    """Body of a child process: run the cell, write its log and failure beside it, exit with its code."""
    from pipelines.config import run_from_dict
    from pipelines.lock import Busy
    from pipelines.progress import Reporter
    from pipelines.results import RunFolder
    from pipelines.run import execute

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent passes it on
    cell.folder.mkdir(parents=True, exist_ok=True)
    log = open(cell.folder / "log.txt", "a", buffering=1, encoding="utf-8")  # noqa: SIM115 - lives as long as the child
    sys.stdout = sys.stderr = log
    os.dup2(log.fileno(), 2)
    failure = cell.folder / "failure.txt"
    failure.unlink(missing_ok=True)
    try:
        manifest = execute(run_from_dict(cell.config), RunFolder(cell.folder), cell.cache, Reporter())
        code = {"finished": 0, "diverged": 3}[manifest["status"]]
    except Busy:
        code = BUSY
    except Interrupted as error:
        print(error)
        code = EXIT_INTERRUPTED
    except (UserError, RunFailed) as error:
        failure.write_text(f"{error}\n", encoding="utf-8")
        code = 2 if isinstance(error, UserError) else 1
    except BaseException as error:
        traceback.print_exc()
        failure.write_text(f"{type(error).__name__}: {error} (see log.txt beside this)\n", encoding="utf-8")
        code = 1
    log.flush()
    os._exit(code)  # no clean-up of the server's imports: it costs a second and does nothing


def _ask_to_stop(running: dict, stop: StopRequest) -> None:
    for child in running:
        if not getattr(child, "asked", False):
            os.kill(child.pid, signal.SIGTERM)
            child.asked = True


def _outcome(cell: Cell, code: int) -> Outcome:
    status = EXIT_CODES.get(code, "failed")
    if status == "finished":
        return Outcome("finished")
    if status == "diverged":
        return Outcome("diverged", "loss or gradient not finite")
    reason = _read(cell.folder / "failure.txt")
    if not reason and code < 0:
        reason = f"killed by {signal.Signals(-code).name}; start the same command again to resume it"
    return Outcome(status, reason or ("asked to stop" if status == "interrupted" else f"exit status {code}"))


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""
