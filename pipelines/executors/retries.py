"""How often a run was started without a new checkpoint, so that a queue gives it up at some point.

A preemption, a time limit or a lost node is no reason to give up a run while every few starts bring a new
checkpoint. A run with too little memory, or with a time limit that ends before its first checkpoint, would
be started again forever.
"""

from __future__ import annotations

from pathlib import Path

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from pipelines.storage import atomic, reading
from pipelines.storage.lock import is_held
from pipelines.storage.names import FAILURE, LOCK, LOG, STARTS
from pipelines.storage.run_folder import RunFolder

MOST_FRUITLESS = 4  # starts in a row without a new checkpoint


class Starts(TypedDict):
    """The content of starts.json."""

    step: int
    fruitless: int


def is_given_up(folder: Path, newest_step: int | None = None) -> bool:
    """Count this start of a run; write why it fails if too many before it brought no checkpoint.

    A start that will do nothing is not counted: the run has ended, or another process works on it.

    Args:
        newest_step: of the newest checkpoint; None: of that in the folder.
    """
    if RunFolder(folder).manifest() is not None or is_held(folder / LOCK):
        return False
    fruitless = count(folder, newest_step)
    if fruitless < MOST_FRUITLESS:
        return False
    why = sentence(fruitless, f"see {LOG} beside this")
    (folder / FAILURE).write_text(f"{why}\n", encoding="utf-8")
    return True


def count(folder: Path, newest_step: int | None = None) -> int:
    """Record that a run is being started; return the starts in a row before it without a new checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    before = reading.json_object_if_there(folder / STARTS, "delete it", Starts)
    step = RunFolder(folder).newest_step() if newest_step is None else newest_step
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


class Submissions:
    """How often one watcher has submitted each run since its newest checkpoint."""

    def __init__(self) -> None:
        self._made: dict[
            Path, tuple[int, int]
        ] = {}  # folder -> step of the newest checkpoint, submissions since

    def fruitless(self, folder: Path) -> int:
        """Return the submissions of a run since its newest checkpoint."""
        step, number = self._made.get(folder, (0, 0))
        return number if step == RunFolder(folder).newest_step() else 0

    def add(self, folder: Path) -> None:
        """Count a submission of a run."""
        self._made[folder] = RunFolder(folder).newest_step(), self.fruitless(folder) + 1
