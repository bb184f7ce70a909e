"""Choose the executor of an ablation: the one of the command line, else the one of its file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pipelines.ablation.cell import Cell, Executor
from pipelines.config.load import AblationConfig
from pipelines.errors import UserError
from pipelines.executors.hf_jobs import HfJobsExecutor
from pipelines.executors.kubernetes import KubernetesExecutor
from pipelines.executors.local import LocalExecutor
from pipelines.executors.ray import RayExecutor


def executor_of(
    config: AblationConfig, folder: Path, say: Callable[[str], None], *, name: str | None, jobs: int | None
) -> Executor:
    """Return the executor called `name`; None: the one that the ablation configures.

    Raises:
        UserError: it cannot work on this machine.
    """
    chosen = name or config.executor
    if chosen == "local":
        return LocalExecutor(jobs or config.jobs, say)
    if chosen == "ray":
        return RayExecutor(config.ray, folder, say, config.store)
    if chosen == "kubernetes":
        return KubernetesExecutor(config.kubernetes, folder, config.store)
    if chosen == "hf-jobs":
        return HfJobsExecutor(config.hf_jobs, folder, say, config.store)
    if config.store is not None:
        what = f"{chosen} makes its runs in a folder that all machines see, not at a storage URL"
        raise UserError("store", what, config.store, "leave it out, or use another executor")
    try:
        from pipelines.executors.slurm import SlurmExecutor
    except ModuleNotFoundError as error:
        what = "Slurm jobs are submitted through submitit, which is not installed"
        raise UserError("--executor slurm", what, accepted="pip install 'attnlab[slurm]'") from error
    return SlurmExecutor(config.slurm, folder, say)


def get_ready(executor: Executor, cells: Sequence[Cell]) -> None:
    """Start what the runs wait for, which on this machine is a fork server, before they are registered."""
    if isinstance(executor, LocalExecutor):
        executor.get_ready(cells)
