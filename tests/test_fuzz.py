"""Mutated configurations and data files end in a result or a sentence: a few of those of scripts/fuzz."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.parametrize("kind", ["configs", "files"])
def test_a_sample_of_the_fuzz_has_no_mistake(kind):
    command = [sys.executable, "scripts/fuzz", kind, "--sample"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"| {kind} |" in done.stdout
