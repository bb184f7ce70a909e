"""Run one cell in this process: what every executor and `attnlab run-cell` call in the end."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pipelines.ablation.cell import EXIT_CODES, Cell, Outcome
from pipelines.distributed.launch import is_first_rank, is_rank, launch
from pipelines.distributed.stop import EXIT_BUSY, EXIT_INTERRUPTED
from pipelines.errors import Interrupted, RunFailed, UserError, without_values
from pipelines.executors import cancellation, mirrored
from pipelines.registry.own_code import variant_failure
from pipelines.shown import printable
from pipelines.storage import atomic, reading
from pipelines.storage.lock import Busy
from pipelines.storage.names import FAILURE, LOG
from pipelines.storage.object_store import ObjectStore
from pipelines.storage.stored_run import StoredRun


def run_cell(cell: Cell) -> int:
    """Run a cell to its end and return its exit status (`EXIT_CODES`, or `EXIT_BUSY`).

    It can be called on any machine and any number of times: one process at a time works on a cell, it
    resumes from the newest complete checkpoint, and it does nothing if the run has ended. From here on this
    process writes to the run's log.txt; the reason of a failure is written to failure.txt. A run on several
    processes starts them, unless this process is one of them (started by torchrun, accelerate, Slurm or
    `launch`).
    """
    if cell.store is None:
        return _run_here(cell, None)
    if is_rank():
        mirrored.require_own_ranks()
        return _run_here(cell, StoredRun(ObjectStore(cell.store), cell.folder.name))
    begin = partial(_write_to_log, cell.folder)
    return _ended_by(cell, lambda: mirrored.mirrored(cell, begin, partial(_run_here, cell)))


def _run_here(cell: Cell, run: StoredRun | None) -> int:
    """Run a cell in the folder of this machine.

    Args:
        run: where its checkpoints go, if the run is at a storage URL.
    """
    if is_first_rank():
        _write_to_log(cell.folder)
    if cell.config["processes"] > 1 and not is_rank():
        again = ["run-cell", str(cell.ablation), cell.folder.name]
        return launch(again, processes=cell.config["processes"], threads=cell.config["threads"])
    if cancellation.is_cancelled(cell.ablation):
        print("not started: the ablation was cancelled; attnlab ablate resumes it")
        return EXIT_INTERRUPTED
    with cancellation.watching(cell.ablation):
        return _ended_by(cell, partial(_run, cell, run))


def limit_threads(threads: int) -> None:
    """Set the threads of the libraries that read it once, when they are imported; call it before torch."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _run(cell: Cell, run: StoredRun | None) -> int:
    from pipelines.ablation.preregistration import read_registration, seals
    from pipelines.config.load import run_from_dict
    from pipelines.runs.execute import execute
    from pipelines.storage.run_folder import RunFolder
    from pipelines.train.progress import Reporter

    reporter = Reporter(enabled=is_first_rank())
    manifest = execute(
        run_from_dict(cell.config),
        RunFolder(cell.folder, on_checkpoint=mirrored.Upload(run, cell.folder) if run is not None else None),
        cell.cache,
        reporter,
        expected=cell.run_hash,
        registration=seals(read_registration(cell.ablation))[-1],
    )
    return {"finished": 0, "diverged": 3}[manifest["status"]]


def _ended_by(cell: Cell, work: Callable[[], int]) -> int:
    """Return the status of `work`; an error is printed, its reason is written, and it becomes the status."""
    try:
        return work()
    except Busy as error:
        print(printable(str(error)), file=sys.stderr)
        return EXIT_BUSY
    except Interrupted as error:
        print(printable(str(error)))
        return EXIT_INTERRUPTED
    except (UserError, RunFailed) as error:
        print(printable(str(error)), file=sys.stderr)
        _write_failure(cell, str(error))
        return 2 if isinstance(error, UserError) else 1
    except Exception as error:
        traceback.print_exc()
        other = f"{type(error).__name__}: {error} (see {LOG} beside this)"
        _write_failure(cell, variant_failure(error) or other)
        return 1


def _write_failure(cell: Cell, reason: str) -> None:
    """Write why a run failed; reports and pushes show it, so it holds no text that may not be published."""
    shown = reason if cell.config["data"]["publish_text"] else without_values(reason)
    hidden = f" ({LOG} beside this has the values, as data.publish_text is false)"
    text = shown if shown == reason or LOG in shown else f"{shown}{hidden}"
    cell.folder.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(cell.folder / FAILURE, f"{text}\n".encode())


def _write_to_log(folder: Path) -> None:
    """Redirect the output of this process and of its libraries to the log of the run."""
    folder.mkdir(parents=True, exist_ok=True)
    log = open(folder / LOG, "a", buffering=1, encoding="utf-8")  # noqa: SIM115 - lives as long as the process
    sys.stdout = sys.stderr = log
    os.dup2(log.fileno(), 2)


def outcome_by(cell: Cell, code: int, killed_by: str | None = None) -> Outcome:
    """Return the outcome of a cell from the exit status of its process and the reason that it wrote."""
    status = EXIT_CODES.get(code, "failed")
    if status == "finished":
        return Outcome("finished")
    if status == "diverged":
        return Outcome("diverged", "loss or gradient not finite")
    path = cell.folder / FAILURE
    reason = reading.text(path, "delete it").strip() if status == "failed" and path.is_file() else ""
    if not reason and killed_by:
        reason = f"killed by {killed_by}; start the same command again to resume"
    return Outcome(status, reason or ("asked to stop" if status == "interrupted" else f"exit status {code}"))
