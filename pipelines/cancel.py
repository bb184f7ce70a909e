"""Stopping an ablation from anywhere: jobs leave the queue, runs save a checkpoint and leave."""

from __future__ import annotations

from pathlib import Path

from pipelines.executors import cancellation, queue
from pipelines.stored import open_ablation


def cancel_command(folder: str) -> None:
    """`attnlab status DIR --cancel`: cancel it; the next `attnlab ablate` goes on where it was."""
    ablation = open_ablation(Path(folder)).folder
    cancellation.cancel(ablation)
    withdrawn = queue.withdraw(ablation) if queue.jobs_of(ablation) else 0
    taken = f"{withdrawn} job{'s' if withdrawn > 1 else ''} taken out of Slurm's queue; " if withdrawn else ""
    seconds = cancellation.SECONDS_BETWEEN_LOOKS
    print(
        f"{taken}runs at work save a checkpoint and leave at the end of a step, {seconds:.0f} s from now on"
    )
    print(f"attnlab status {folder} shows them stopped; attnlab ablate goes on where they were")
