"""Make one run in a worker of Ray: what runs on a node."""

from __future__ import annotations

import os
from pathlib import Path

import ray

from pipelines.ablation.folder import find_cell
from pipelines.distributed.stop import listening
from pipelines.executors import retries
from pipelines.executors.gpus import VISIBLE
from pipelines.executors.local import LocalExecutor


def make_run_on_node(ablation: str, name: str) -> None:
    """Make a run as the local executor does, in a child of this worker, on the GPUs that Ray gave it.

    When Ray cancels the task, the run saves a checkpoint and leaves. If this worker is killed, so does the
    run: it looks for its parent. How it ended is in its folder.
    """
    os.environ[VISIBLE] = ",".join(map(str, ray.get_gpu_ids()))  # none: no GPU, whatever the node has
    cell = find_cell(Path(ablation), name)
    if retries.is_given_up(cell.folder):
        return
    with listening() as stop:
        LocalExecutor(jobs=1).run([cell], stop=stop, on_outcome=lambda _cell, _outcome: None)
