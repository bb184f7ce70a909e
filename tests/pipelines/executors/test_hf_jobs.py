"""The commands that `ablate --prepare` writes for HF Jobs, as the Hub's own client understands them.

Jobs that `ablate` starts itself are in test_jobs_at_the_hub.py.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.cli.main import main
from pipelines.config.engines import HfJobsConfig
from pipelines.errors import UserError
from pipelines.executors.hf_jobs import HfJobsExecutor
from tests.pipelines.executors.test_executors import names, write

SETTINGS = [
    "hf_jobs.image=registry.example/attnlab:1",
    "hf_jobs.bucket=lab/runs",
    "hf_jobs.flavor=a10g-small",
]


def prepare(file: Path, out: Path, *settings: str) -> int:
    mount = f"hf_jobs.mount={out.parents[1]}"
    options = ["--executor", "hf-jobs", "--prepare", *SETTINGS, mount, *settings]
    return main(["ablate", str(file), "--out", str(out), *options])


def understood(command: str) -> dict[str, str]:
    """Return the job that the client would ask the Hub for, as its own dry run shows it."""
    program, *arguments = shlex.split(command)
    assert program == "hf"
    arguments.insert(arguments.index("run") + 1, "--dry-run")
    code = "from huggingface_hub.cli.hf import main; main()"
    environment = os.environ | {"HF_TOKEN": "hf_" + "T" * 34}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (done.stdout + done.stderr).splitlines()
    assert "(dry run) Job not submitted." in lines
    return dict(line.strip().split(maxsplit=1) for line in lines if line.startswith("  "))


def test_each_missing_run_is_a_job_of_the_client(tmp_path, capsys):
    file, out = write(tmp_path / "two words"), tmp_path / "two words" / "runs" / "toy"
    settings = ["hf_jobs.minutes=90", "hf_jobs.secrets=[HF_TOKEN]", "hf_jobs.env={NCCL_DEBUG: WARN}"]
    assert prepare(file, out, *settings) == 0
    commands = capsys.readouterr().out.splitlines()
    assert {command.split()[-1] for command in commands} == set(names(out).values())
    run = names(out)["stock"]
    [command] = [command for command in commands if command.endswith(run)]
    assert understood(command) == {
        "image": "registry.example/attnlab:1",
        "command": f"timeout --preserve-status --signal=TERM 5280s attnlab run-cell '{out}' {run}",
        "flavor": "a10g-small",
        "timeout": "90m",
        "attempts": "4",
        "env": "NCCL_DEBUG=WARN",
        "secrets": "HF_TOKEN=***",  # the value is the shell's, and in no command
        "volumes": f"hf://buckets/lab/runs:{out.parents[1]}:rw",
        "labels": f"name=attnlab-{run}",
    }


def test_a_flavor_that_does_not_exist_is_refused_with_those_that_do():
    settings = HfJobsConfig(image="i", bucket="lab/runs", flavor="a11g-small")
    with pytest.raises(UserError, match=r"no such flavor \(got a11g-small\); one of .*a10g-small.*prices"):
        HfJobsExecutor(settings, Path("/outputs/runs/mine"), print).prepare([])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"image": None}, "hf_jobs.image: is not stated; hf-jobs needs it"),
        ({"bucket": None}, "hf_jobs.bucket: is not stated; hf-jobs needs it"),
        ({"mount": "/elsewhere"}, "the ablation's folder is not on the volume that the runs mount"),
    ],
)
def test_what_a_job_needs_is_asked_for(changes, reason):
    settings = HfJobsConfig(**{"image": "i", "bucket": "lab/runs"} | changes)
    with pytest.raises(UserError, match=reason):
        HfJobsExecutor(settings, Path("/outputs/runs/mine"), print)
