"""Several runs on one card at the same time: their useful tokens per second over those of one alone."""

from __future__ import annotations

import multiprocessing
import tempfile
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from scripts.gpu_check.jobs import job
from scripts.gpu_check.scale import Scale
from scripts.gpu_check.training import build, our_turn

JOB = "BERT-base, 128"
PATIENCE = 240  # seconds until all runs are ready for their first step


def measure(scale: Scale) -> dict[str, Any]:
    """Return the rate of one run, two runs and four runs side by side, all of them together."""
    counts = (1, 2) if scale.is_tiny else (1, 2, 4)
    rates = {str(count): sum(_side_by_side(count, scale)) for count in counts}
    return {"tokens_per_second": rates, "over_one": {n: rate / rates["1"] for n, rate in rates.items()}}


def _side_by_side(count: int, scale: Scale) -> list[float]:
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(count), context.Queue()
    workers = [context.Process(target=_work, args=(scale, barrier, results)) for _ in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise RuntimeError(f"{count} runs side by side did not all end well")
    return [results.get() for _ in workers]


def _work(scale: Scale, barrier: Barrier, results: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = build(job(JOB, scale).settings(Path(folder), scale), Path(folder))
        our_turn(run, scale, 0)
        barrier.wait(PATIENCE)
        results.put(our_turn(run, scale, 1))
