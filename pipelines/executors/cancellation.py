"""Cancel an ablation from any machine: a file in its folder that every process of its runs looks for."""

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
    """Ask every process that works on the ablation, on any machine, to save a checkpoint and exit."""
    (ablation / CANCELLED).touch()


def revoke(ablation: Path) -> None:
    """Remove the cancellation, because the ablation was started again."""
    (ablation / CANCELLED).unlink(missing_ok=True)


def is_cancelled(ablation: Path) -> bool:
    """Whether the ablation was cancelled and has not been started again since."""
    return (ablation / CANCELLED).exists()


@contextmanager
def watching(ablation: Path) -> Iterator[None]:
    """Send this process SIGTERM, its signal to stop, if the ablation is cancelled during the block."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            if is_cancelled(ablation):
                os.kill(os.getpid(), signal.SIGTERM)
                return

    threading.Thread(target=watch, daemon=True, name="cancellation").start()
    try:
        yield
    finally:
        ended.set()
