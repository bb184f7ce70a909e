"""How often a run was started without a new checkpoint, so that a queue gives it up at some point.

A preemption, a time limit or a lost node is no reason to give up a run while every few starts bring a new
checkpoint. A run with too little memory, or with a time limit that ends before its first checkpoint, would
be started again forever.
"""

from __future__ import annotations

from pathlib import Path

from pipelines.storage import atomic
from pipelines.storage.atomic import read_json
from pipelines.storage.names import STARTS
from pipelines.storage.run_folder import RunFolder

MOST_FRUITLESS = 4  # starts in a row without a new checkpoint


def count(folder: Path) -> int:
    """Record that a run is being started; return the starts in a row before it without a new checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    before, step = read_json(folder / STARTS), RunFolder(folder).newest_step()
    fruitless = before["fruitless"] + 1 if before and before["step"] == step else 0
    atomic.write_json(folder / STARTS, {"step": step, "fruitless": fruitless})
    return fruitless


def forget(folder: Path) -> None:
    """Reset the count, because the user has started the run again or it has ended."""
    (folder / STARTS).unlink(missing_ok=True)


def sentence(fruitless: int, last: str) -> str:
    """Return the reason for giving up a run."""
    return (
        f"started {fruitless} times in a row without a new checkpoint ({last}): is the time limit too short "
        "to reach the first checkpoint (checkpoint_every_steps), or the memory too small?"
    )
