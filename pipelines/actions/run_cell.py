"""`attnlab run-cell`: make one run of an ablation, from any scheduler."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.ablation.at_url import leave_scratch, local_folder
from pipelines.ablation.cell import Cell, outcome_of
from pipelines.ablation.folder import find_cell
from pipelines.distributed.launch import adopt_slurm_rank, is_rank
from pipelines.distributed.stop import EXIT_BUSY, EXIT_INTERRUPTED, leaving_at_once
from pipelines.executors.worker import limit_threads, outcome_by, run_cell
from pipelines.shown import printable
from pipelines.storage.names import LOG
from pipelines.storage.object_store import place_of

COMMAND_STATUS = {3: 0, EXIT_BUSY: EXIT_INTERRUPTED}  # by the status of `run_cell`, if it differs


def run_cell_command(folder: str, name: str) -> int:
    """Make one run; print how it ended and return the exit status.

    0: it has finished or diverged (which is a result). 75: call it again later, because it was asked to stop
    or another process works on it. 1: it failed, and another try may succeed. 2: the user must correct an
    error first.

    Args:
        folder: of the ablation, on this machine or at a storage URL.
        name: of the run's folder, or the beginning of it.

    Raises:
        UserError: the ablation has no such run.
    """
    adopt_slurm_rank()
    cell = find_cell(local_folder(folder), name)
    limit_threads(cell.config["threads"])
    with _restored_streams(), leaving_at_once():
        code = run_cell(cell)
    if is_rank():  # the process that started the ranks needs the full status
        return code
    print(printable(f"{cell.label}: {_sentence(cell, code)}"), file=sys.stderr)
    if folder.rstrip("/") == cell.address and cell.store is not None and code in (0, 3):
        leave_scratch(cell)
    return COMMAND_STATUS.get(code, code)


def _sentence(cell: Cell, code: int) -> str:
    if code == EXIT_BUSY:
        return f"another process works on it; attnlab status {cell.ablation} shows its state"
    if code == EXIT_INTERRUPTED:
        return "asked to stop; the same command resumes it"
    # A run that has ended here may have failed to be written to its store.
    outcome = outcome_of(cell) if code in (0, 3) else outcome_by(cell, code)
    here = cell.folder if cell.store is None else f"{cell.store}/{place_of(cell.folder.name)}"
    place = cell.folder / LOG if outcome.status == "failed" else here
    return f"{outcome.status}: {outcome.reason or 'all results are written'} ({place})"


@contextmanager
def _restored_streams() -> Iterator[None]:
    """Restore standard output and error after a block in which the run redirects them to its log."""
    streams, descriptor = (sys.stdout, sys.stderr), os.dup(2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout, sys.stderr = streams
        os.dup2(descriptor, 2)
        os.close(descriptor)
