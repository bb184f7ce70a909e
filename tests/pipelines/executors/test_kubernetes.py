"""The Job that `ablate --prepare` writes for Kubernetes: its schema, and what its pods and their statuses do.

No cluster is here. The schema is Kubernetes' own; `Controller` does what the documentation of Jobs says of an
Indexed Job with `backoffLimitPerIndex` and a `podFailurePolicy`, with processes in place of pods.
"""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import yaml

from pipelines.cli.main import main
from pipelines.config.engines import KubernetesConfig
from pipelines.executors.kubernetes import job
from tests.pipelines.executors.test_executors import write

SETTINGS = {"image": "registry.example/attnlab:1", "claim": "runs", "mount": "/shared"}
# Options that leave no branch of the manifest out.
EVERYTHING = {
    "namespace": "team",
    "queue": "gpus",
    "at_once": 2,
    "gpus": 1,
    "cpus": 3,
    "memory_gb": 1.5,
    "env": {"HF_HUB_OFFLINE": "1"},
    "secrets": ["hub"],
    "node_selector": {"gpu": "a100"},
}


def a_job(ablation: Path = Path("/shared/runs/My grid_2"), runs=("3fa1", "9c02", "e7d4"), **changes) -> dict:
    processes, threads = changes.pop("processes", 1), changes.pop("threads", 2)
    return job(KubernetesConfig(**SETTINGS | changes), str(ablation), runs, processes, threads)


def container(manifest: dict) -> dict:
    [found] = manifest["spec"]["template"]["spec"]["containers"]
    return found


class Controller:
    """Run the pods of a Job as processes, one after the other, with `attnlab` replaced by a script."""

    def __init__(self, folder: Path, script: str) -> None:
        (folder / "bin").mkdir(parents=True)
        self.program, self.calls = folder / "bin" / "attnlab", folder / "calls"
        self.program.write_text(f'#!/bin/sh\necho "$@" >> {self.calls}\n{script}\n')
        self.program.chmod(0o755)

    def run(self, manifest: dict) -> dict[int, str]:
        spec = manifest["spec"]
        return {index: self._index(spec, index) for index in range(spec["completions"])}

    def _index(self, spec: dict, index: int) -> str:
        [pod] = spec["template"]["spec"]["containers"]
        environment = os.environ | {"JOB_COMPLETION_INDEX": str(index)}
        environment["PATH"] = f"{self.program.parent}:{environment['PATH']}"
        failed = 0
        while failed <= spec["backoffLimitPerIndex"]:
            status = subprocess.run(pod["command"], env=environment, check=False).returncode
            if status == 0:
                return "succeeded"
            rules = [rule for rule in spec["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
            actions = [rule["action"] for rule in rules if status in rule["onExitCodes"]["values"]]
            if actions[:1] == ["FailIndex"]:
                return "failed"
            failed += actions[:1] != ["Ignore"]
        return "failed"

    def tries(self) -> Counter:
        return Counter(self.calls.read_text().split("\n")[:-1]) if self.calls.exists() else Counter()


@pytest.mark.parametrize(
    "changes", [{}, EVERYTHING, EVERYTHING | {"processes": 4}], ids=["least", "all", "four"]
)
def test_the_job_is_one_by_the_schema_of_kubernetes(changes):
    schemas = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    manifest = yaml.safe_load(yaml.safe_dump(a_job(**changes)))
    schemas.validate(manifest, schemas.latest_version(), strict=True)
    manifest["spec"]["podFailurePolicy"]["rules"][0]["action"] = 3
    with pytest.raises(schemas.ValidationError):
        schemas.validate(manifest, schemas.latest_version(), strict=True)


def test_each_index_makes_one_run_of_the_ablation(tmp_path):
    controller = Controller(tmp_path, "exit 0")
    assert controller.run(a_job(tmp_path / "two words")) == dict.fromkeys(range(3), "succeeded")
    assert controller.tries() == {
        f"run-cell {tmp_path}/two words {run}": 1 for run in ("3fa1", "9c02", "e7d4")
    }


@pytest.mark.parametrize(
    ("statuses", "end", "tries"),
    [
        ((75, 75, 75, 75, 75, 75, 0), "succeeded", 7),  # asked to stop, or another process works on it
        ((2, 0), "failed", 1),  # the user must correct it first
        ((1, 0), "succeeded", 2),
        ((137, 1, 75, 137, 0), "succeeded", 5),
        ((1, 137, 1, 1, 0), "failed", 4),
    ],
)
def test_the_status_of_a_run_decides_whether_it_is_started_again(tmp_path, statuses, end, tries):
    script = f"set -- {' '.join(map(str, statuses))}\nshift $(($(wc -l < {tmp_path}/calls) - 1))\nexit $1"
    controller = Controller(tmp_path, script)
    assert controller.run(a_job(tmp_path, runs=("3fa1",))) == {0: end}
    assert sum(controller.tries().values()) == tries


def test_a_pod_that_kubernetes_takes_away_is_no_try():
    rules = a_job()["spec"]["podFailurePolicy"]["rules"]
    assert {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]} in rules


def test_the_job_of_a_cancelled_ablation_empties(tmp_path):
    (tmp_path / "cancelled").touch()
    controller = Controller(tmp_path / "controller", "exit 75")
    assert controller.run(a_job(tmp_path)) == dict.fromkeys(range(3), "succeeded")
    assert not controller.tries()


def test_a_queue_of_kueue_admits_the_job_and_as_many_runs_as_fit():
    manifest = a_job(queue="gpus")
    assert manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert manifest["metadata"]["annotations"] == {"kueue.x-k8s.io/job-min-parallelism": "1"}
    assert manifest["spec"]["suspend"]
    assert not a_job()["spec"]["suspend"]  # nobody would resume it


def test_a_run_of_several_processes_gets_the_gpus_of_all_and_memory_to_share():
    one, four = container(a_job(gpus=1)), container(a_job(gpus=1, processes=4, memory_gb=1.5))
    assert one["resources"] == {"requests": {"cpu": "2"}, "limits": {"nvidia.com/gpu": "1"}}
    assert four["resources"]["limits"] == {"nvidia.com/gpu": "4", "memory": "1500M"}
    assert four["resources"]["requests"] == {"cpu": "8", "memory": "1500M"}
    assert [mount["mountPath"] for mount in four["volumeMounts"]] == ["/shared", "/dev/shm"]


def test_the_same_runs_have_one_name_and_others_another():
    assert a_job() == a_job()
    names = [a_job()["metadata"]["name"], a_job(runs=("3fa1",))["metadata"]["name"]]
    names += [
        a_job(ablation=Path("/shared/" + "long" * 30))["metadata"]["name"],
        a_job(Path("/shared/ü"))["metadata"]["name"],
    ]
    assert len(set(names)) == len(names)
    for name in names:
        assert len(f"{name}-99999") <= 63
        assert all(
            letter.isascii() and (letter.islower() or letter.isdigit() or letter == "-") for letter in name
        )


def prepare(file: Path, out: Path, mount: Path, *more: str) -> int:
    settings = ["kubernetes.image=i", "kubernetes.claim=c", f"kubernetes.mount={mount}"]
    return main(["ablate", str(file), "--out", str(out), "--executor", "kubernetes", *settings, *more])


def test_prepare_writes_the_job_of_the_missing_runs_and_prints_its_command(tmp_path, capsys):
    file, out = write(tmp_path), tmp_path / "runs" / "toy"
    assert prepare(file, out, tmp_path, "--prepare") == 0
    assert capsys.readouterr().out.splitlines() == [f"kubectl create -f {out}/kubernetes.yaml"]
    [manifest] = yaml.safe_load_all((out / "kubernetes.yaml").read_text())
    assert manifest["spec"]["completions"] == 2
    assert container(manifest)["command"][3] == str(out)


def test_without_prepare_it_says_that_kubectl_starts_the_runs(tmp_path, capsys):
    file, out = write(tmp_path), tmp_path / "runs" / "toy"
    assert prepare(file, out, tmp_path) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "2 runs have not ended, and kubectl starts them there; the same command with" in said


def test_a_folder_that_no_pod_sees_is_refused(tmp_path, capsys):
    file, out = write(tmp_path), tmp_path / "runs" / "toy"
    assert prepare(file, out, tmp_path / "elsewhere", "--prepare") == 2
    assert "is not on the volume that the runs mount" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("missing", ["image", "claim"])
def test_what_a_job_needs_is_asked_for(tmp_path, capsys, missing):
    file, out = write(tmp_path), tmp_path / "runs" / "toy"
    stated = "claim" if missing == "image" else "image"
    command = [
        "ablate",
        str(file),
        "--out",
        str(out),
        "--executor",
        "kubernetes",
        f"kubernetes.{stated}=x",
        "--prepare",
    ]
    assert main(command) == 2
    assert f"kubernetes.{missing}: is not stated" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["Team_A", "-a", "b" * 64])
def test_a_namespace_that_no_cluster_has_is_one_sentence(tmp_path, capsys, name):
    file, out = write(tmp_path), tmp_path / "runs" / "toy"
    assert prepare(file, out, tmp_path, "--prepare", f"kubernetes.namespace={name}") == 2
    said = capsys.readouterr().err
    assert (
        "kubernetes.namespace must be namespace, of small letters, digits and -; null: kubectl's own" in said
    )
    assert f"(got '{name[:20]}" in said
