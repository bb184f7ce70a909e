"""The places where the runs of an ablation can be made, each started for real on this machine, or skipped.

HF Jobs alone are not real: a double of the Hub starts their commands.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from scripts.slurm import cluster as slurm
from tests.conftest import REPOSITORY
from tests.pipelines.hub.double import WRITER
from tests.pipelines.hub.jobs_double import Job, JobsHub, in_processes
from tests.ray_cluster import RayCluster, ray_cluster


@dataclass(frozen=True)
class Engine:
    """How `attnlab ablate` reaches it: options, and variables beside those of the tests."""

    options: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    hurry: Callable[[], object] = lambda: None  # what starts again waits no longer
    ray: RayCluster | None = None


@contextmanager
def local(folder: Path) -> Iterator[Engine]:
    yield Engine(("--executor", "local", "--jobs", "2"))


@contextmanager
def slurm_of_two_nodes(folder: Path) -> Iterator[Engine]:
    try:
        slurm.install()
        with slurm.Cluster(folder / "slurm") as cluster:
            yield Engine(
                ("--executor", "slurm"), {"SLURM_CONF": cluster.environment["SLURM_CONF"]}, cluster.hurry
            )
    except slurm.CannotRun as reason:
        pytest.skip(str(reason))


@contextmanager
def ray_of_two_nodes(folder: Path) -> Iterator[Engine]:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'attnlab[ray]'")
    with ray_cluster() as cluster:
        yield Engine(("--executor", "ray", f"ray.address={cluster.address}"), ray=cluster)


@contextmanager
def jobs_of_a_hub(folder: Path) -> Iterator[Engine]:
    """HF Jobs in a double of the Hub: processes of this machine, at most two at a time."""

    def environment(job: Job) -> dict[str, str]:
        work = Path(job.asked["command"][-2]).parents[1]
        return {"PYTHONPATH": f"{REPOSITORY}:{work}", "ATTNLAB_SLOWLY": str(work / "slowly")}

    settings = ("hf_jobs.image=i", "hf_jobs.bucket=lab/runs", f"hf_jobs.mount={folder.parent}")
    with JobsHub(in_processes(environment), at_once=2) as hub:
        known = {"HF_ENDPOINT": hub.url, "HF_TOKEN": WRITER, "HF_HUB_OFFLINE": "0"}
        yield Engine(("--executor", "hf-jobs", *settings), known | {"ATTNLAB_HUB_PATIENCE": "10"})


ENGINES = {
    "local": local,
    "slurm": slurm_of_two_nodes,
    "ray": ray_of_two_nodes,
    "hf-jobs": jobs_of_a_hub,
}
