"""Cancelling an ablation from anywhere: a file in its folder that everyone who works on it looks for."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.storage.names import CANCELLED

SECONDS_BETWEEN_LOOKS = 5.0


def cancel(ablation: Path) -> None:
    """Ask every process that works on the ablation, on any machine, to save a checkpoint and leave."""
    (ablation / CANCELLED).touch()


def revoke(ablation: Path) -> None:
    """Let the ablation go on: it was started again."""
    (ablation / CANCELLED).unlink(missing_ok=True)


def is_cancelled(ablation: Path) -> bool:
    """Whether it was cancelled and not started again since."""
    return (ablation / CANCELLED).exists()


@contextmanager
def watching(ablation: Path) -> Iterator[None]:
    """For the length of the block, turn a cancellation into the signal that asks this process to stop."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            if is_cancelled(ablation):
                os.kill(os.getpid(), signal.SIGTERM)
                return

    threading.Thread(target=watch, daemon=True, name="cancellation").start()
    try:
        yield
    finally:
        over.set()
