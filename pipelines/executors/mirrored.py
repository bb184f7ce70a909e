"""Make a run whose folder is at a storage URL: fetch it, work on it here, write what came of it there."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipelines.ablation.cell import Cell
from pipelines.distributed.launch import is_rank
from pipelines.distributed.stop import EXIT_INTERRUPTED
from pipelines.errors import RunFailed, UserError
from pipelines.executors.cancellation import is_cancelled
from pipelines.shown import printable
from pipelines.storage import atomic, lease
from pipelines.storage.lock import Busy, is_held
from pipelines.storage.names import CANCELLED, CHECKPOINTS, CONDITIONS, FAILURE, LOCK, LOG, MANIFEST
from pipelines.storage.object_store import ObjectStore, StoreFailed
from pipelines.storage.removal import CHECKPOINT_FILES, STEP, remove_files
from pipelines.storage.run_files import is_result
from pipelines.storage.run_folder import RunFolder
from pipelines.storage.stored_run import Damaged, StoredRecord, StoredRun, conditions_of

OLDER = (CONDITIONS, *(f"{STEP}/{name}" for name in CHECKPOINT_FILES))  # not those that were set aside
HOLDER = "ATTNLAB_LEASE"  # the holder of the lease, for the ranks that it starts


def mirrored(cell: Cell, begin: Callable[[], None], work: Callable[[StoredRun], int]) -> int:
    """Hold the lease on a run, fetch it, call `work`, write what came of it; return the status of `work`.

    Args:
        begin: called when the log of earlier starts is in the run's folder.

    Raises:
        Busy: another worker is at it.
        RunFailed: the store failed, or what is there is damaged; the message says what is safe.
    """
    assert cell.store is not None, "called for a run at a storage URL only"
    store = ObjectStore(cell.store)
    run = StoredRun(store, cell.folder.name)
    cancelled = f"{cell.ablation.resolve().name}/{CANCELLED}"
    asked: set[str] = set()

    def stop(why: str) -> None:
        if why not in asked:  # a second signal would end the run at once
            asked.add(why)
            print(printable(why), flush=True)
            os.kill(os.getpid(), signal.SIGTERM)

    def leave() -> None:
        stop(f"another worker has taken over {run.url}; this one stops")

    def look() -> None:
        if not is_cancelled(cell.ablation) and store.read(cancelled) is not None:
            stop("the ablation was cancelled; attnlab ablate resumes it")

    with lease.held(store, run.place, leave, look) as holder, _told_to_ranks(holder):
        if is_held(cell.folder / LOCK):  # by ranks whose launcher was killed
            raise Busy(f"{cell.folder} is in use by another process")
        run.fetch_notes(cell.folder)
        begin()
        if store.read(cancelled) is not None:
            print("not started: the ablation was cancelled; attnlab ablate resumes it")
            return EXIT_INTERRUPTED
        restore(run, cell.folder)
        (cell.folder / FAILURE).unlink(missing_ok=True)  # of an earlier start
        try:
            code = work(run)
            bring_back(run, cell.folder, holder)
        finally:
            with suppress(StoreFailed):
                run.put_notes(cell.folder)
    return code


def restore(run: StoredRun, folder: Path) -> None:
    """Make the folder of a run what it is in the store; one that is ahead of it stays.

    Raises:
        RunFailed: nothing in the store is whole any more: starting over is the user's decision.
    """
    ended = run.ended()
    records = [ended] if ended is not None else run.saved()
    problems = ["its records are damaged"] if run.has_lost_records() and not records else []
    if _is_ahead(folder, records, is_damaged=bool(problems)):
        return
    for record in records:
        remove_files(folder / CHECKPOINTS, OLDER)
        try:
            return run.fetch(record, folder, is_result if record is ended else lambda _name: True)
        except Damaged as error:
            problems.append(str(error))
            print(printable(f"{run.url}, step {record.step}: not used: {error}"), flush=True)
    if problems:
        what = f"nothing there is whole any more ({problems[0]}); to make the run again, delete all below it"
        raise RunFailed(f"{run.url}: {what}.")


def _is_ahead(folder: Path, records: list[StoredRecord], *, is_damaged: bool) -> bool:
    """Return whether a folder holds more of a run than the store, whole, made under the same conditions."""
    from pipelines.train.checkpoint import verify

    here = RunFolder(folder)
    if not records:
        return not is_damaged or here.newest_step() > 0 or here.manifest() is not None
    newest = records[0]
    if MANIFEST in newest.files or here.manifest() is not None:
        return MANIFEST not in newest.files
    conditions = folder / CHECKPOINTS / CONDITIONS
    same = conditions.is_file() and atomic.sha256_of(conditions) == conditions_of(newest)
    step = here.newest_step()
    return same and step > newest.step and verify(here.checkpoint(step)) is None


def bring_back(run: StoredRun, folder: Path, holder: str) -> None:
    """Write what a start has made of a run: its end, or a checkpoint that is not there yet.

    Raises:
        StoreFailed: the store does not take it; it is still in the folder.
    """
    if lease.is_lost(run.store, run.place, holder):
        return
    if RunFolder(folder).manifest() is not None:
        if run.ended() is None:
            run.end(folder)
    elif RunFolder(folder).newest_step() > max((record.step for record in run.saved()), default=0):
        run.save(folder)


class Upload:
    """Writes each sealed checkpoint of a run to its store, in the process that trains.

    A checkpoint that the store does not take is told, and written with the next one or at the end.
    """

    def __init__(self, run: StoredRun, folder: Path) -> None:
        self.run, self.folder = run, folder
        self.holder = os.environ[HOLDER]

    def __call__(self, step: int) -> None:
        try:
            if not lease.is_lost(self.run.store, self.run.place, self.holder):
                self.run.save(self.folder)
                self.run.put_notes(self.folder, (LOG,))
        except StoreFailed as error:
            print(printable(f"the checkpoint of step {step} is only here so far: {error}"), flush=True)


@contextmanager
def _told_to_ranks(holder: str) -> Iterator[None]:
    os.environ[HOLDER] = holder
    try:
        yield
    finally:
        del os.environ[HOLDER]


def require_own_ranks() -> None:
    """Refuse ranks that another launcher has started, which may be on machines that do not see the folder.

    Raises:
        UserError: this process is one.
    """
    if is_rank() and HOLDER not in os.environ:
        what = "the processes of a run at a storage URL are started by attnlab, on one machine"
        raise UserError("store", what, accepted="leave out torchrun, accelerate or srun")
