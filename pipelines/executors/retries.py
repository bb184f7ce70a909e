"""How often a cell was started without coming any further: what a queue starts again must end some time.

A preemption, a time limit or a lost node is no reason to give a run up as long as every few starts bring a
new checkpoint. A run that has too little memory, or whose time limit is shorter than the way to its first
checkpoint, would go round for ever.
"""

from __future__ import annotations

from pathlib import Path

from pipelines.storage import atomic
from pipelines.storage.atomic import read_json
from pipelines.storage.names import STARTS
from pipelines.storage.run_folder import RunFolder

MOST_FRUITLESS = 4  # starts in a row that reach no new checkpoint


def count(folder: Path) -> int:
    """Note that a run is being started; how many starts in a row before this one brought no checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    before, step = read_json(folder / STARTS), RunFolder(folder).newest_step()
    fruitless = before["fruitless"] + 1 if before and before["step"] == step else 0
    atomic.write_json(folder / STARTS, {"step": step, "fruitless": fruitless})
    return fruitless


def forget(folder: Path) -> None:
    """Begin to count anew: somebody has started the run by hand, or it is over."""
    (folder / STARTS).unlink(missing_ok=True)


def sentence(fruitless: int, last: str) -> str:
    """Why a run is given up."""
    return (
        f"started {fruitless} times in a row without a new checkpoint ({last}): is the time limit shorter "
        "than the way to the first checkpoint (checkpoint_every_steps), or the memory too small?"
    )
