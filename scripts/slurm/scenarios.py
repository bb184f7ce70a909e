"""Scenarios: what an ablation on Slurm must survive. Each prints what it saw and raises `Broken` on a fault.

A scenario waits for conditions, never for a length of time: the machine may be slow or busy.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml

from scripts.slurm.cluster import Cluster

REPOSITORY = Path(__file__).parents[2]
SECONDS_TO_WAIT = 300  # for one condition; the machine may be busy
SIGNAL_SECONDS = 55  # Slurm's warning before the time limit: less than a minute, its smallest limit
# In the log of a run that was asked to stop: after a step, or in the middle of an evaluation.
STOPPED = re.compile(r"^stopped (?:at step|while evaluating)", re.MULTILINE)
# Stock attention that is slow in a Slurm job as long as a file exists. It computes the same numbers.
SLOW = """
import os
import time
from pathlib import Path
from custom_attention.variant import Variant

class Slow(Variant):
    def dropout_rate(self, rate, call):
        if "SLURM_JOB_ID" in os.environ and Path({file!r}).exists():
            time.sleep(1.0)
        return rate
"""
RUN: dict[str, Any] = {
    "task": "ner",
    "data": {"generated": {"name": "ner", "train": 61, "validation": 23, "test": 29}},
    "model": {
        "architecture": "bert",
        "family": "encoder",
        "vocab_size": 400,
        "config": {
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "intermediate_size": 31,
        },
    },
    "batch_size": 8,
    "max_steps": 60,
    "eval_every_steps": 30,
    "checkpoint_every_steps": 3,
    "learning_rate": 1e-2,  # so that the scores that are compared are not all zero
    "device": "cpu",
}
ABLATION: dict[str, Any] = {
    "cells": {"toy": RUN},
    "seeds": [1, 2, 3],
    "primary": {"ner": "f1"},
    "margin": {"f1": 0.5},
    "keep": "model",
    "slurm": {"minutes": 20, "signal_seconds": SIGNAL_SECONDS},
}
# More steps than a slow run takes while the scenario interrupts it: it must not finish before.
SLOW_ARM = {"attention": ["slow:Slow"], "set": {"max_steps": 240}}
WILD = {"attention": [], "set": {"learning_rate": 1e30, "max_grad_norm": None}}


Found = TypeVar("Found")


class Broken(Exception):
    """A condition that must hold does not hold."""


def must(holds: bool, what: str) -> None:
    """Raise `Broken` with the sentence `what` unless the condition holds."""
    if not holds:
        raise Broken(what)


# ---- the scenarios


def faults(cluster: Cluster, folder: Path) -> None:
    """Run nine: three diverge, one slow run meets its time limit, one is preempted, one loses its node."""
    work = _workplace(folder / "faults", {"stock": [], "slow": SLOW_ARM, "wild": WILD})
    slowly = work / "slowly"
    slowly.touch()
    with (
        _shell(cluster, work, "--executor", "slurm") as watcher,
        _shell(cluster, work, "--executor", "local", "--jobs", "1", out="local/toy") as local,
    ):
        runs = _run_folders(work / "runs" / "toy")
        job_of = _wait(lambda: _mapping(work / "runs" / "toy" / "jobs.json"), "the jobs to be submitted")
        limited, preempted, bereft = (runs["toy", "slow", seed] for seed in (1, 2, 3))

        _wait(lambda: _has_checkpoint(limited), "the first slow run to write a checkpoint")
        # The limit counts from the start of the job. It must lie ahead by the length of the warning, however
        # long the job took to its first checkpoint; a job that is past its limit is killed without a warning.
        limit = cluster.limit_minutes(job_of[limited.name], ahead_seconds=SIGNAL_SECONDS)
        cluster.run("scontrol", "update", f"JobId={job_of[limited.name]}", f"TimeLimit={limit}")
        _wait(lambda: _num_stops(limited) > 0, "Slurm to send its warning")
        _wait(lambda: _queues_again(cluster, job_of[limited.name]), "the job to be queued again")
        # The limit stays as set; on a busy machine the next start may not reach its first step in that time.
        cluster.run("scontrol", "update", f"JobId={job_of[limited.name]}", "TimeLimit=20", "StartTime=now")
        print("time limit: warned by Slurm, saved, queued again", flush=True)

        _wait(lambda: _is_at_work(cluster, preempted, job_of), "the second slow run to write a checkpoint")
        node = cluster.jobs()[job_of[preempted.name]][1]
        urgent = ["--parsable", "--partition=high", f"--nodelist={node}", "--exclusive", "--output=/dev/null"]
        urgent_job = cluster.run("sbatch", *urgent, "--wrap=true")
        _wait(lambda: _num_stops(preempted) > 0, "the second slow run to be preempted")
        # It has the node alone, so once it has ended, every run of that node has stopped. Before that, the
        # third run may still be about to stop there, while the scenario counts how often it was asked to.
        _wait(lambda: cluster.state(urgent_job) == "GONE", "the urgent job to end")
        print("preemption: saved, queued again", flush=True)

        _wait_hurrying(
            cluster,
            lambda: _is_at_work(cluster, bereft, job_of),
            "the third slow run to be at work with a checkpoint",
        )
        node = cluster.jobs()[job_of[bereft.name]][1]
        asked = _num_stops(bereft)  # once, where it shared the node of the one that was preempted
        cluster.lose_node(node)
        _wait(lambda: _queues_again(cluster, job_of[bereft.name]), "Slurm to miss the node")
        print("lost node: Slurm has queued its jobs again", flush=True)

        slowly.unlink()
        _wait_hurrying(cluster, lambda: watcher.poll() is not None, "the ablation to end")
        must(watcher.returncode == 0, f"attnlab ablate on Slurm ended with {watcher.returncode}")
        cluster.start_node(node)
        _wait(lambda: local.poll() is not None, "the local ablation to end")
        must(local.returncode == 0, f"attnlab ablate on this machine ended with {local.returncode}")
    _equal_results(work / "runs" / "toy", work / "local" / "toy")
    for run in (limited, preempted, bereft):
        must("resumed at step" in _log(run), f"{run} did not resume from its checkpoint")
    must(_num_stops(bereft) == asked, "the run of the lost node was asked to stop")
    must(
        not list((work / "runs" / "toy" / "queue").glob("*_submitted.pkl")),
        "submitit's files were not removed",
    )


def twice(cluster: Cluster, folder: Path) -> None:
    """Start one ablation from three shells at once, two of them on Slurm: every run is made once."""
    work = _workplace(folder / "twice", {"stock": [], "gate": ["gate"]})
    with (
        _shell(cluster, work, "--executor", "slurm") as first,
        _shell(cluster, work, "--executor", "local", "--jobs", "1") as second,
        _shell(cluster, work, "--executor", "slurm") as third,
    ):
        for shell in (first, second, third):
            _wait_hurrying(cluster, lambda: shell.poll() is not None, "the shells to end")  # noqa: B023
            must(shell.returncode == 0, f"a shell ended with {shell.returncode}")
    runs = _run_folders(work / "runs" / "toy")
    begun = {run: _log(run).count("process on cpu") for run in runs.values()}
    must(set(begun.values()) == {1}, f"runs were begun so many times: {sorted(begun.values())}")
    print(f"started from three shells: {len(begun)} runs, each begun once", flush=True)


def cancelled(cluster: Cluster, folder: Path) -> None:
    """Cancel from another shell: a running job saves, a waiting one leaves the queue; both resume here."""
    settings = ABLATION["slurm"] | {"at_once": 1}
    work = _workplace(
        folder / "cancelled", {"slow": ["slow:Slow"]}, baseline="slow", seeds=[1, 2], slurm=settings
    )
    (work / "slowly").touch()
    with _shell(cluster, work, "--executor", "slurm") as watcher:
        runs = _run_folders(work / "runs" / "toy")
        at_work, waiting = (runs["toy", "slow", seed] for seed in (1, 2))
        _wait(lambda: _has_checkpoint(at_work), "the first run to write a checkpoint")
        subprocess.run(
            _command("status", "runs/toy", "--cancel"), cwd=work, check=True, env=_environment(cluster, work)
        )
        _wait(lambda: watcher.poll() is not None, "the watcher to leave")
        must(watcher.returncode == 75, f"a cancelled ablation ended with {watcher.returncode}")
        _wait(lambda: not cluster.jobs(), "the queue to be empty")
    must(_num_stops(at_work) > 0, "the run at work did not stop by itself")
    must(not _log(waiting), "the run that waited was begun")
    with _shell(cluster, work, "--executor", "local", "--jobs", "1") as here:
        _wait(lambda: here.poll() is not None, "the ablation to end here")
        must(here.returncode == 0, f"attnlab ablate on this machine ended with {here.returncode}")
    must("resumed at step" in _log(at_work), "the cancelled run began anew")
    print("cancelled: saved, withdrawn from the queue, and finished on this machine", flush=True)


def two_nodes(cluster: Cluster, folder: Path) -> None:
    """Run two processes on two nodes: the bits of two processes here, as copies (DDP) and sharded."""
    two = RUN | {"processes": 2, "max_steps": 20}
    # Sharding is not part of a run's hash: with the same number of steps these two would be one run.
    cells = {"toy": two, "sharded": two | {"sharding": "fsdp2", "max_steps": 21}}
    work = _workplace(folder / "two-nodes", {"stock": []}, seeds=[1], cells=cells)
    with (
        _shell(cluster, work, "--executor", "slurm", "slurm.nodes=2") as there,
        _shell(cluster, work, "--executor", "local", "--jobs", "1", out="local/toy") as here,
    ):
        for shell in (there, here):
            _wait_hurrying(cluster, lambda: shell.poll() is not None, "two processes to end")  # noqa: B023
            must(shell.returncode == 0, f"a run of two processes ended with {shell.returncode}")
    _equal_results(work / "runs" / "toy", work / "local" / "toy")


SCENARIOS: tuple[Callable[[Cluster, Path], None], ...] = (faults, twice, cancelled, two_nodes)


# ---- helpers of the scenarios


def _workplace(folder: Path, arms: Mapping[str, object], **changes: object) -> Path:
    """Write an ablation and the slow variant into a new folder."""
    folder.mkdir(parents=True)
    (folder / "slow.py").write_text(SLOW.format(file=str(folder / "slowly")))
    (folder / "ablation.yaml").write_text(yaml.safe_dump(ABLATION | {"arms": arms} | changes))
    return folder


@contextmanager
def _shell(
    cluster: Cluster, work: Path, *arguments: str, out: str = "runs/toy"
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `attnlab ablate` in the background; its output goes to a file."""
    command = _command("ablate", "ablation.yaml", "--out", out, *arguments)
    output = work / f"shell-{len(list(work.glob('shell-*')))}.txt"
    with open(output, "wb") as file:
        process = subprocess.Popen(
            command, cwd=work, env=_environment(cluster, work), stdout=file, stderr=file
        )
    try:
        yield process
    except Exception:
        print(f"--- {output}\n{output.read_text()}", flush=True)
        raise
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=60)


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pipelines", *arguments]


def _environment(cluster: Cluster, work: Path) -> dict[str, str]:
    """Return the environment of a command and its jobs: Slurm's configuration and where `slow` is."""
    return cluster.environment | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": f"{REPOSITORY}:{work}"}


def _wait(condition: Callable[[], Found | None], what: str) -> Found:
    """Return what `condition` returns as soon as that is true.

    Raises:
        Broken: it stayed false for `SECONDS_TO_WAIT`.
    """
    deadline = time.monotonic() + SECONDS_TO_WAIT
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise Broken(f"waited {SECONDS_TO_WAIT} s for {what}")
        time.sleep(0.5)
    return found


def _wait_hurrying(cluster: Cluster, condition: Callable[[], bool], what: str) -> None:
    """Wait, and start requeued jobs at each look."""

    def is_met() -> bool:
        cluster.hurry()
        return condition()

    _wait(is_met, what)


def _run_folders(ablation: Path) -> dict[tuple[str, str, int], Path]:
    """Return the folder of every run, by cell, arm and seed."""
    names = _wait(lambda: _mapping(ablation / "runs.json"), "the runs to be written down")
    labels = {label: label.split("/") for label in names}
    cells = ablation.parent / "cells"
    return {(cell, arm, int(seed)): cells / names[label] for label, (cell, arm, seed) in labels.items()}


def _mapping(path: Path) -> dict[str, str] | None:
    """Return a JSON file of names; None as long as it does not exist."""
    return json.loads(path.read_text()) if path.exists() else None


def _queues_again(cluster: Cluster, job: str) -> bool:
    state = cluster.state(job)
    must(state not in ("GONE", "COMPLETED", "FAILED"), f"job {job} ended instead of queueing again: {state}")
    return state == "PENDING"


def _is_at_work(cluster: Cluster, run: Path, job_of: Mapping[str, str]) -> bool:
    return _has_checkpoint(run) and cluster.state(job_of[run.name]) == "RUNNING"


def _has_checkpoint(run: Path) -> bool:
    return any(run.glob("checkpoints/step-*/seal.json"))


def _num_stops(run: Path) -> int:
    """Return how often a run was asked to stop and did so."""
    return len(STOPPED.findall(_log(run)))


def _log(run: Path) -> str:
    path = run / "log.txt"
    return path.read_text() if path.exists() else ""


def _equal_results(there: Path, here: Path) -> None:
    """Check that every run ended alike, and that predictions, statistics and weights have the same bits."""
    ends, compared = Counter[str](), 0
    ours, theirs = _run_folders(there), _run_folders(here)
    for key, run in ours.items():
        one, other = (json.loads((path / "manifest.json").read_text()) for path in (run, theirs[key]))
        must(one["status"] == other["status"], f"{key} {one['status']} on Slurm and {other['status']} here")
        ends[one["status"]] += 1
        for name, digest in one["files"].items():
            if name.startswith(("predictions", "statistics", "model/")):
                must(other["files"][name] == digest, f"{key}: {name} is not the same")
                compared += 1
    failures = json.loads((there / "results.json").read_text())["failures"]
    must(len(failures) == ends["diverged"], f"reported: {failures}")
    must({failure["status"] for failure in failures} <= {"diverged"}, f"reported: {failures}")
    counted = ", ".join(f"{count} {status}" for status, count in ends.items())
    print(f"{counted}; {compared} files of results and weights equal to the local executor's", flush=True)
