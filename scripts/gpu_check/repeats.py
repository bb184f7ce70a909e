"""The same run again: bits of deterministic kernels and their cost, and bits after a stop and a resume."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from pipelines.errors import Interrupted
from pipelines.train.batches import Step
from pipelines.train.engine import PendingStep
from pipelines.train.loop import Training
from scripts.gpu_check.jobs import job
from scripts.gpu_check.scale import Scale
from scripts.gpu_check.training import build, our_turn

JOB = "BERT-base, 128"
STEPS = 6  # of the run that is stopped


def deterministic(scale: Scale) -> dict[str, Any]:
    """Train twice in each mode; return whether the weights have equal bits, and the cost of the mode."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first matrix product
    rates: dict[bool, list[float]] = {}
    digests: dict[bool, list[str]] = {}
    for mode in (False, True):
        for _ in range(2):
            rate, digest = _trained(scale, mode)
            rates.setdefault(mode, []).append(rate)
            digests.setdefault(mode, []).append(digest)
    torch.use_deterministic_algorithms(False)
    return {
        "deterministic_bits_equal": len(set(digests[True])) == 1,
        "usual_bits_equal": len(set(digests[False])) == 1,
        "cost": max(rates[False]) / max(rates[True]),
    }


def _trained(scale: Scale, mode: bool) -> tuple[float, str]:
    with tempfile.TemporaryDirectory() as folder:
        config = job(JOB, scale).settings(Path(folder), scale)
        run = build(config.model_copy(update={"deterministic": mode}), Path(folder))
        return our_turn(run, scale, 0), _digest(run)


def _digest(run: Training) -> str:
    sha = hashlib.sha256()
    for parameter in run.model.parameters():
        sha.update(parameter.detach().float().cpu().numpy().tobytes())
    return sha.hexdigest()


def resume(scale: Scale) -> dict[str, Any]:
    """Train without a stop, and with one in the middle; return whether both ended with the same bits."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = job(JOB, scale).settings(folder, scale)
        config = config.model_copy(update={"deterministic": True, "max_steps": STEPS, "sync_every_steps": 1})
        whole = build(config, folder / "whole")
        whole.fit()
        was_stopped = _stop_in_the_middle(build(config, folder / "stopped"))
        again = build(config, folder / "stopped")
        again.fit()
    return {"was_stopped": was_stopped, "bits_equal": _digest(whole) == _digest(again)}


def _stop_in_the_middle(run: Training) -> bool:
    take_step = run.engine.take_step

    def stopping(step: Step) -> PendingStep:
        if step.number == STEPS // 2:
            run.stop.signal_name = "SIGUSR1"
        return take_step(step)

    run.engine.take_step = stopping  # type: ignore[method-assign]
    try:
        run.fit()
    except Interrupted:
        return True
    return False
