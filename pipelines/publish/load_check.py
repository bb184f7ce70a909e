"""Check before an upload: the lines of the card, run in a fresh process, load the trained model.

Every way to load it is measured on a stored batch and the outputs of the trained model for it.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel

from custom_attention.sites import made_up_example
from pipelines.errors import RunFailed
from pipelines.hub.secrets import NAMED_SECRET
from pipelines.publish import load_check_process
from pipelines.publish.loading_code import Way
from pipelines.publish.staging import print_progress

PROBE = "probe.safetensors"
BOUND = 1e-5  # of the largest output, at least of 1: what folding into float32 weights may round


def write_probe(model: PreTrainedModel, folder: Path) -> None:
    """Store a batch of random inputs and the outputs of `model` for it; the batch holds nobody's data."""
    batch = {name: value for name, value in made_up_example(model).items() if torch.is_tensor(value)}
    stored = {f"input.{name}": value for name, value in batch.items()}
    stored |= {f"output.{name}": value for name, value in _outputs(model, batch).items()}
    save_file({name: value.contiguous() for name, value in stored.items()}, folder / PROBE)


@torch.no_grad()
def _outputs(model: PreTrainedModel, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the floating-point outputs of a forward pass in evaluation mode, by name."""
    output = model.eval()(**batch)
    return {
        name: value.float()
        for name, value in output.items()
        if torch.is_tensor(value) and value.is_floating_point()
    }


def check_loading(folder: Path, ways: Sequence[Way]) -> dict[str, float]:
    """Load a staged folder in every way, in a fresh process, and return the largest difference of each.

    The process has no network and no token, and where attnlab must not be needed, no attnlab either.

    Raises:
        RunFailed: one way does not load the folder, or loads a model with other outputs.
    """
    print_progress("loading it in a fresh process, with the lines of its card")
    request = {
        "probe": str(folder / PROBE),
        "sources": str(Path(__file__).parents[2]),
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
    answer: load_check_process.Answer = json.loads(done.stdout)
    bound = BOUND * max(1.0, answer["largest_output"])
    for name, difference in answer["differences"].items():
        if not (math.isfinite(difference) and difference <= bound):
            what = f"loaded the {name} way, an output differs by {difference:.3g} (bound {bound:.3g})"
            raise RunFailed(f"{folder}: {what}; nothing was sent")
    return answer["differences"]
