"""Make one run in a worker of Ray: what runs on a node."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import ray

from pipelines.ablation.at_url import leave_scratch, local_folder
from pipelines.ablation.cell import Cell, from_plain
from pipelines.ablation.folder import find_cell
from pipelines.distributed.stop import listening
from pipelines.executors import retries
from pipelines.executors.gpus import VISIBLE
from pipelines.executors.local import LocalExecutor
from pipelines.storage import lease
from pipelines.storage.object_store import ObjectStore
from pipelines.storage.stored_run import StoredRun


def make_run_on_node(run: Mapping[str, Any]) -> None:
    """Make a run as the local executor does, in a child of this worker, on the GPUs that Ray gave it.

    When Ray cancels the task, the run saves a checkpoint and leaves. If this worker is killed, so does the
    run: it looks for its parent. How it ended is in its folder.

    Args:
        run: its cell (`to_plain`). To find it by its name, each of the runs would read the list of all.
    """
    os.environ[VISIBLE] = ",".join(map(str, ray.get_gpu_ids()))  # none: no GPU, whatever the node has
    cell = from_plain(run)
    if cell.store is not None:  # each node has a folder of its own for it
        cell = find_cell(local_folder(cell.address), cell.folder.name)
    if _is_given_up(cell):
        return
    with listening() as stop:
        LocalExecutor(jobs=1).run([cell], stop=stop, on_outcome=lambda _cell, _outcome: None)
    if cell.store is not None:
        leave_scratch(cell)


def _is_given_up(cell: Cell) -> bool:
    """Count this start of a run, where all nodes see the count; return whether there were too many."""
    if cell.store is None:
        return retries.is_given_up(cell.folder)
    run = StoredRun(ObjectStore(cell.store), cell.folder.name)
    if run.ended() is not None or lease.is_held(run.store, run.place):
        return False
    run.fetch_notes(cell.folder)
    is_over = retries.is_given_up(cell.folder, max((record.step for record in run.saved()), default=0))
    run.put_notes(cell.folder)
    return is_over
