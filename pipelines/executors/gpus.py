"""The GPUs of this machine, and which of them a run gets: side by side, runs would all take the first."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence

VISIBLE = "CUDA_VISIBLE_DEVICES"
SECONDS_TO_ANSWER = 60


def visible_gpus() -> tuple[str, ...]:
    """What `CUDA_VISIBLE_DEVICES` calls the GPUs that this process may use; found without torch."""
    named = os.environ.get(VISIBLE)
    if named is not None:
        return tuple(name.strip() for name in named.split(",") if name.strip() not in ("", "-1"))
    if shutil.which("nvidia-smi") is None:
        return ()
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]  # numbers differ from CUDA's
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(answer.stdout.split()) if answer.returncode == 0 else ()


class Shares:
    """Deals GPUs out to runs, the least used first."""

    def __init__(self, gpus: Sequence[str]) -> None:
        self._runs_on = Counter(dict.fromkeys(gpus, 0))

    def take(self, count: int) -> tuple[str, ...]:
        """GPUs for a run of `count` processes; none where the machine has none."""
        least_used = sorted(self._runs_on, key=self._runs_on.__getitem__)[:count]
        self._runs_on.update(least_used)
        return tuple(least_used)

    def give_back(self, gpus: Sequence[str]) -> None:
        """A run is over."""
        self._runs_on.subtract(gpus)
