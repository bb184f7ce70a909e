"""Ablations on a real Slurm of two nodes on this machine; skipped with a reason where there can be none."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from scripts.slurm import cluster
from tests.conftest import REPOSITORY

SKIPPED = 77  # exit status of scripts/test-slurm


def test_what_slurm_does_to_runs_changes_no_bit_of_their_results(tmp_path):
    """Run the first two scenarios of scripts/test-slurm; by itself the script runs two more."""
    script = str(REPOSITORY / "scripts" / "test-slurm")
    command = [sys.executable, script, "faults", "twice", "--keep", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500)
    if done.returncode == SKIPPED:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("user", "status", "reason"),
    [
        (1000, 0, "Slurm's daemons run as root here, and this is another user"),
        (0, 100, "apt-get cannot install it: E: Unable to locate package slurm-wlm"),
        (0, 0, "not all of slurmctld, slurmd, munged are here"),
    ],
)
def test_where_there_can_be_no_slurm_it_says_why(monkeypatch, user, status, reason):
    answer = subprocess.CompletedProcess([], status, "", "E: Unable to locate package slurm-wlm\n")
    monkeypatch.setenv("PATH", os.environ["PATH"])
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(
        cluster.shutil, "which", lambda name: "/usr/bin/apt-get" if name == "apt-get" else None
    )
    monkeypatch.setattr(cluster.subprocess, "run", lambda *_, **__: answer)
    with pytest.raises(cluster.CannotRun, match=reason):
        cluster.install()
