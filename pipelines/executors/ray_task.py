"""Make one run in a worker of Ray: what runs on a node."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import ray

from pipelines.ablation.cell import from_plain
from pipelines.distributed.stop import listening
from pipelines.executors import retries
from pipelines.executors.gpus import VISIBLE
from pipelines.executors.local import LocalExecutor


def make_run_on_node(run: Mapping[str, Any]) -> None:
    """Make a run as the local executor does, in a child of this worker, on the GPUs that Ray gave it.

    When Ray cancels the task, the run saves a checkpoint and leaves. If this worker is killed, so does the
    run: it looks for its parent. How it ended is in its folder.

    Args:
        run: its cell (`to_plain`). To find it by its name, each of the runs would read the list of all.
    """
    os.environ[VISIBLE] = ",".join(map(str, ray.get_gpu_ids()))  # none: no GPU, whatever the node has
    cell = from_plain(run)
    if retries.is_given_up(cell.folder):
        return
    with listening() as stop:
        LocalExecutor(jobs=1).run([cell], stop=stop, on_outcome=lambda _cell, _outcome: None)
