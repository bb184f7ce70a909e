"""Before upload: a stranger's lines, run in a fresh process, give the numbers of the trained model.

The measure of every way to load it is a stored batch, and what the trained model says to it.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from custom_attention.sites import made_up_example
from pipelines.errors import RunFailed
from pipelines.hub.secrets import NAMED_SECRET
from pipelines.publish import load_check_process
from pipelines.publish.loading_code import Way
from pipelines.publish.staging import say

PROBE = "probe.safetensors"
BOUND = 1e-5  # of the largest output, at least of 1: what folding into float32 weights may round


def write_probe(model: torch.nn.Module, folder: Path) -> None:
    """Run `model` on a batch made of its vocabulary (nobody's data) and store input and outputs."""
    batch = {name: value for name, value in made_up_example(model).items() if torch.is_tensor(value)}
    stored = {f"input.{name}": value for name, value in batch.items()}
    stored |= {f"output.{name}": value for name, value in outputs(model, batch).items()}
    save_file({name: value.contiguous() for name, value in stored.items()}, folder / PROBE)


@torch.no_grad()
def outputs(model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The floating-point tensors that a forward returns, in evaluation mode, by name."""
    found = model.eval()(**batch)
    return {
        name: value.float()
        for name, value in found.items()
        if torch.is_tensor(value) and value.is_floating_point()
    }


def prove(folder: Path, ways: list[Way]) -> dict[str, float]:
    """Load a staged folder in every way, in a process that has never seen it; the largest differences.

    The process has no network and no token, and for the ways that must work without us, not us either.

    Raises:
        RunFailed: a way does not load it, or loads another function.
    """
    say("loading it in a fresh process, as a stranger will")
    request = {
        "probe": str(folder / PROBE),
        "ours": str(Path(__file__).parents[2]),
        "ways": [asdict(way) for way in ways],
    }
    environment = {name: value for name, value in os.environ.items() if not NAMED_SECRET.search(name)}
    with tempfile.TemporaryDirectory() as modules:
        environment |= {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": modules, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-I", load_check_process.__file__],
            input=json.dumps(request),
            env=environment,
            capture_output=True,
            text=True,
        )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason"])[-1]
        raise RunFailed(f"{folder} does not load in a fresh process: {reason}; nothing was sent")
    answer = json.loads(done.stdout)
    bound = BOUND * max(1.0, answer["largest"])
    for name, difference in answer["differences"].items():
        if not (math.isfinite(difference) and difference <= bound):
            what = f"loaded the {name} way, an output differs by {difference:.3g} (bound {bound:.3g})"
            raise RunFailed(f"{folder}: {what}; nothing was sent")
    return answer["differences"]
