"""The schemas of the places where the runs of an ablation can be made, one section each."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from pipelines.config.section import Count, Name, Section

STORAGE_URL = re.compile(r"(?P<protocol>[a-z][a-z0-9+.-]*)://(?P<host>[^/@?#\s]*)(?P<path>(?:/[^?#\s]*)?)")


def _storage_url(url: str) -> str:
    found = STORAGE_URL.fullmatch(url)
    if found is None or "::" in url or ".." in found["path"].split("/"):
        what = "is no storage URL such as s3://BUCKET/runs; a name, a key or a query has no place in it"
        raise ValueError(what)
    if found["protocol"] in ("file", "local") and (found["host"] or not found["path"].strip("/")):
        raise ValueError("names no folder by its whole path, such as file:///shared/runs")
    return url.rstrip("/")


StorageUrl = Annotated[str, AfterValidator(_storage_url)]

Variable = Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$")]  # a name, and never NAME=value

DnsLabel = Annotated[str, Field(pattern="^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]  # of Kubernetes


class SlurmConfig(Section):
    """Settings of the Slurm jobs, one job per run."""

    partition: Name | None = Field(None, description="sbatch --partition; null: the cluster's default")
    account: Name | None = Field(None, description="sbatch --account")
    qos: Name | None = Field(None, description="sbatch --qos")
    minutes: Count = Field(
        60, description="time limit of a job in minutes; a longer run saves a checkpoint and is queued again"
    )
    signal_seconds: Count = Field(
        120,
        description="seconds before the limit when a run is asked to stop; a step and a checkpoint must fit",
    )
    at_once: Count | None = Field(None, description="most jobs running at a time; null: no limit")
    nodes: Count = Field(1, description="nodes of each run, which share its processes")
    gpus: int = Field(0, ge=0, description="GPUs per process")
    cpus: Count | None = Field(None, description="CPUs per process; null: its threads")
    memory_gb: float | None = Field(
        None, gt=0, description="memory per node in GB; null: the cluster's default"
    )
    setup: Annotated[tuple[Name, ...], Field(strict=False)] = Field(
        (), description="shell commands before the run, such as module load cuda"
    )
    options: dict[Name, str | int | bool] = Field(
        {}, description="more options of sbatch, such as {constraint: a100}"
    )


class RayConfig(Section):
    """Settings of the Ray tasks, one task per run. A run is on one node."""

    address: Name | None = Field(
        None, description="HOST:PORT of the cluster; null: RAY_ADDRESS, or the cluster of this machine"
    )
    gpus: int = Field(0, ge=0, description="GPUs per process")
    cpus: Count | None = Field(None, description="CPUs per process; null: its threads")
    memory_gb: float | None = Field(None, gt=0, description="memory per run in GB; null: not asked for")
    resources: dict[Name, Annotated[float, Field(gt=0)]] = Field(
        {}, description="custom resources per run, such as {a100: 1}"
    )
    runtime_env: dict[Name, Any] = Field(
        {}, description="Ray's runtime environment of the runs, such as {env_vars: {NCCL_DEBUG: INFO}}"
    )


class KubernetesConfig(Section):
    """Settings of the Job of Kubernetes that `ablate --prepare` writes: one index, and one pod, per run."""

    image: Name | None = Field(None, description="container image that has attnlab; needed")
    claim: Name | None = Field(
        None, description="PersistentVolumeClaim that holds the runs; needed without a store"
    )
    mount: Annotated[str, Field(pattern="^/")] = Field(
        "/shared", description="where that volume is mounted, in the pods and on this machine"
    )
    namespace: DnsLabel | None = Field(
        None, description="namespace, of small letters, digits and -; null: kubectl's own"
    )
    queue: Name | None = Field(None, description="local queue of Kueue; null: no Kueue")
    at_once: Count | None = Field(None, description="most pods running at a time; null: no limit")
    gpus: int = Field(0, ge=0, description="GPUs per process")
    cpus: Count | None = Field(None, description="CPUs per process; null: its threads")
    memory_gb: float | None = Field(
        None, gt=0, description="memory per run in GB; null: the cluster's default"
    )
    grace_seconds: Count = Field(
        120, description="seconds a run has to save when its pod is stopped: a step and a checkpoint must fit"
    )
    env: dict[Name, str] = Field({}, description="environment variables of the runs")
    secrets: Annotated[tuple[Name, ...], Field(strict=False)] = Field(
        (), description="Secrets whose keys become environment variables, such as one with HF_TOKEN"
    )
    node_selector: dict[Name, str] = Field({}, description="labels that a node must have")


class HfJobsConfig(Section):
    """Settings of the HF Jobs, one job per run."""

    image: Name | None = Field(None, description="container image that has attnlab; needed")
    bucket: Annotated[str, Field(pattern="^[^/:]+/[^/:]+$")] | None = Field(
        None, description="ORG/NAME of the bucket that holds the runs; needed without a store"
    )
    mount: Annotated[str, Field(pattern="^/[^:]+$")] = Field(
        "/outputs", description="where that bucket is mounted, in the jobs and on this machine"
    )
    flavor: Name = Field("cpu-basic", description="hardware of a job, such as a10g-small")
    minutes: Count = Field(240, description="time limit of a job in minutes; the Hub's own default is 30")
    grace_seconds: Count = Field(
        120,
        description="seconds before the limit when a run is asked to stop; a step and a checkpoint must fit",
    )
    namespace: Name | None = Field(None, description="user or organization that pays; null: the user")
    env: dict[Name, str] = Field({}, description="environment variables of the runs")
    secrets: Annotated[tuple[Variable, ...], Field(strict=False)] = Field(
        (),
        description="names of variables of this shell whose values the jobs get as secrets, such as HF_TOKEN",
    )
