"""Write the runs of an ablation as Indexed Jobs of Kubernetes, one index per run; kubectl starts them."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipelines.ablation.cell import Cell, OnOutcome, costs_nothing
from pipelines.config.ablation import KubernetesConfig
from pipelines.distributed.stop import EXIT_INTERRUPTED, StopRequest
from pipelines.errors import UserError
from pipelines.executors.mounted import address_for
from pipelines.storage import atomic
from pipelines.storage.names import CANCELLED, KUBERNETES

TRIES = 3  # of a run that fails with status 1 or is killed, after the first
MOST_CHARACTERS = 40  # of the ablation in a name: pods are called name-index, and have 63
# The index chooses the run. A cancelled ablation has nothing to do: the Job empties instead of trying again.
SCRIPT = f"""if [ -e "$0/{CANCELLED}" ]; then exit 0; fi
shift "$JOB_COMPLETION_INDEX"
exec attnlab run-cell "$0" "$1"
"""


class KubernetesExecutor:
    """Writes Jobs for kubectl. They need no process of ours; `ablate` reports when their runs have ended.

    Args:
        store: storage URL of the run folders.

    Raises:
        UserError: a setting is missing, or the folder is not on the volume of the pods.
    """

    at_a_time = None
    when_stopped = "nothing was started"

    price = staticmethod(costs_nothing)

    def __init__(self, settings: KubernetesConfig, ablation: Path, store: str | None = None) -> None:
        needed = {"image": settings.image} | ({} if store else {"claim": settings.claim})
        self.ablation = ablation.absolute()
        self.address = address_for("kubernetes", ablation, settings.mount, needed, store)
        self.settings = settings

    def run(self, cells: Sequence[Cell], *, stop: StopRequest, on_outcome: OnOutcome) -> None:
        """Refuse to run: kubectl starts the runs, by the command that `prepare` returns.

        Raises:
            UserError: always.
        """
        what = f"{len(cells)} runs have not ended, and kubectl starts them there"
        accepted = "the same command with --prepare prints how"
        raise UserError("--executor kubernetes", what, accepted=accepted)

    def prepare(self, cells: Sequence[Cell]) -> list[str]:
        """Write the Jobs of the cells into the ablation's folder; return the command that starts them."""
        kinds: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
        for cell in cells:
            kinds[cell.config["processes"], cell.config["threads"]].append(cell.folder.name)
        jobs = [job(self.settings, self.address, runs, *kind) for kind, runs in kinds.items()]
        path = self.ablation / KUBERNETES
        atomic.write_bytes(path, yaml.safe_dump_all(jobs, sort_keys=False).encode())
        return [f"kubectl create -f {shlex.quote(str(path))}"] if jobs else []


def job(
    settings: KubernetesConfig, ablation: str, runs: Sequence[str], processes: int, threads: int
) -> dict[str, Any]:
    """Return an Indexed Job of runs with so many processes and threads, as `batch/v1` describes it.

    Args:
        ablation: its folder, or its storage URL.
    """
    labels = {"app.kubernetes.io/name": "attnlab"}
    kueue = {"kueue.x-k8s.io/queue-name": settings.queue} if settings.queue else {}
    metadata: dict[str, Any] = {"name": _name(ablation, runs), "labels": labels | kueue}
    if settings.namespace:
        metadata["namespace"] = settings.namespace
    if kueue:  # a queue that has room for some of the runs starts these
        metadata["annotations"] = {"kueue.x-k8s.io/job-min-parallelism": "1"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "completionMode": "Indexed",
            "completions": len(runs),
            "parallelism": min(settings.at_once or len(runs), len(runs)),
            "suspend": bool(kueue),  # until Kueue admits it
            "backoffLimitPerIndex": TRIES,
            "podFailurePolicy": {"rules": _rules()},
            "template": {
                "metadata": {"labels": labels},
                "spec": _pod(settings, ablation, runs, processes, threads),
            },
        },
    }


def _rules() -> list[dict[str, Any]]:
    """Return what becomes of a run by the status of its pod; 1, or a kill, counts as one of the tries."""
    status = {"containerName": "run", "operator": "In"}
    return [
        {"action": "Ignore", "onExitCodes": {**status, "values": [EXIT_INTERRUPTED]}},  # start it again
        {"action": "FailIndex", "onExitCodes": {**status, "values": [2]}},  # the user must correct it
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]


def _pod(
    settings: KubernetesConfig, ablation: str, runs: Sequence[str], processes: int, threads: int
) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": "run",
        "image": settings.image,
        "command": ["sh", "-c", SCRIPT, ablation, *runs],
        "resources": _resources(settings, processes, threads),
        "volumeMounts": [],
    }
    volumes: list[dict[str, Any]] = []
    if settings.claim:
        container["volumeMounts"].append({"name": "runs", "mountPath": settings.mount})
        volumes.append({"name": "runs", "persistentVolumeClaim": {"claimName": settings.claim}})
    if processes > 1:  # they exchange gradients through it, and a container has 64 MB
        container["volumeMounts"].append({"name": "memory", "mountPath": "/dev/shm"})
        volumes.append({"name": "memory", "emptyDir": {"medium": "Memory"}})
    if settings.env:
        container["env"] = [{"name": name, "value": value} for name, value in settings.env.items()]
    if settings.secrets:
        container["envFrom"] = [{"secretRef": {"name": name}} for name in settings.secrets]
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": settings.grace_seconds,
        "containers": [container],
        "volumes": volumes,
    }
    return pod | ({"nodeSelector": dict(settings.node_selector)} if settings.node_selector else {})


def _resources(settings: KubernetesConfig, processes: int, threads: int) -> Mapping[str, Any]:
    requests = {"cpu": str((settings.cpus or threads) * processes)}
    limits = {"nvidia.com/gpu": str(settings.gpus * processes)} if settings.gpus else {}
    if settings.memory_gb:
        requests["memory"] = limits["memory"] = f"{round(settings.memory_gb * 1000)}M"
    return {"requests": requests} | ({"limits": limits} if limits else {})


def _name(ablation: str, runs: Sequence[str]) -> str:
    """Return a name that is the same for the same runs, so that kubectl refuses to create them twice."""
    plain = (
        re.sub(r"[^a-z0-9]+", "-", ablation.rpartition("/")[2].lower())
        .strip("-")[:MOST_CHARACTERS]
        .strip("-")
    )
    digest = hashlib.sha256("\n".join([ablation, *runs]).encode()).hexdigest()[:8]
    return "-".join(part for part in ("attnlab", plain, digest) if part)
