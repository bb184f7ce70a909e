"""How often a step makes Python wait for the GPU: torch warns at each wait, with the line that caused it."""

from __future__ import annotations

import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from scripts.gpu_check.jobs import JOBS, job
from scripts.gpu_check.scale import Scale
from scripts.gpu_check.training import build

WARM_UP = 2  # steps; the first ones choose kernels and fill caches
OURS = ("pipelines", "custom_attention", "transformers", "torch")


def measure(scale: Scale) -> dict[str, Any]:
    """Return the waits per step of each job, and the lines that caused them."""
    if scale.device.type != "cuda":
        return {"waits": {}, "why": "only a GPU has anything to wait for"}
    found = {}
    for one in JOBS:
        with tempfile.TemporaryDirectory() as folder:
            found[one.name] = _waits(one.name, scale, Path(folder))
    return {
        "waits": {name: sum(lines.values()) / scale.steps for name, lines in found.items()},
        "lines": {name: dict(lines.most_common(5)) for name, lines in found.items()},
    }


def _waits(name: str, scale: Scale, folder: Path) -> Counter[str]:
    run = build(job(name, scale).settings(folder, scale), folder)
    run.engine.model.train()
    for number in range(WARM_UP):
        run.engine.take_step(run.plan.step(number))
    lines: Counter[str] = Counter()

    def note(message: Warning | str, *_: Any, **__: Any) -> None:
        if "synchroniz" in str(message):
            lines[_line()] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            for number in range(WARM_UP, WARM_UP + scale.steps):
                run.engine.take_step(run.plan.step(number))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return lines


def _line() -> str:
    """Return the innermost line of a library or of ours that is on the stack."""
    frames = [
        frame for frame in traceback.extract_stack() if any(f"/{name}/" in frame.filename for name in OURS)
    ]
    last = frames[-1]
    return f"{'/'.join(Path(last.filename).parts[-3:])}:{last.lineno} {last.name}"
