"""The command `attnlab run-cell`: one cell, for schedulers that we know nothing of."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.ablation.cell import Cell, outcome_of
from pipelines.ablation.folder import find_cell
from pipelines.distributed.launch import adopt_slurm_rank, is_rank
from pipelines.distributed.stop import EXIT_BUSY, EXIT_INTERRUPTED, leaving_at_once
from pipelines.executors.worker import run_cell
from pipelines.storage.names import LOG

STATUS_OF = {3: 0, EXIT_BUSY: EXIT_INTERRUPTED}  # of the command, by that of the work on a cell


def run_cell_command(folder: str, name: str) -> int:
    """`attnlab run-cell`: how the run ended, as a sentence and an exit status.

    0: it is over, finished or diverged (a finding). 75: call it again, later: it was asked to stop, or
    another process works on it. 1: it failed, and may do better. 2: somebody has to mend something first.

    Raises:
        UserError: the ablation has no such run.
    """
    adopt_slurm_rank()
    cell = find_cell(Path(folder), name)
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # read once, when torch is imported
        os.environ[variable] = str(cell.config["threads"])
    with _own_voice(), leaving_at_once():
        code = run_cell(cell)
    if is_rank():  # whoever has started the ranks asks for more than the command tells
        return code
    print(f"{cell.label}: {_sentence(cell, code)}", file=sys.stderr)
    return STATUS_OF.get(code, code)


def _sentence(cell: Cell, code: int) -> str:
    if code == EXIT_BUSY:
        return f"another process works on it; attnlab status {cell.ablation} shows how it stands"
    if code == EXIT_INTERRUPTED:
        return "asked to stop; the same command goes on"
    outcome = outcome_of(cell)
    place = cell.folder / LOG if outcome.status == "failed" else cell.folder
    return f"{outcome.status}: {outcome.reason or 'all is written'} ({place})"


@contextmanager
def _own_voice() -> Iterator[None]:
    """Get the streams back afterwards: what the run says goes to its log, how it ended to the caller."""
    streams, descriptor = (sys.stdout, sys.stderr), os.dup(2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout, sys.stderr = streams
        os.dup2(descriptor, 2)
        os.close(descriptor)
