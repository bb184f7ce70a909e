"""The GPUs of this machine and their assignment to runs; without it, all runs would use the first GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence

VISIBLE = "CUDA_VISIBLE_DEVICES"
SECONDS_TO_ANSWER = 60


def visible_gpus() -> tuple[str, ...]:
    """Return the GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them, without torch."""
    listed = os.environ.get(VISIBLE)
    if listed is not None:
        return tuple(name.strip() for name in listed.split(",") if name.strip() not in ("", "-1"))
    if shutil.which("nvidia-smi") is None:
        return ()
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]  # its numbers differ from CUDA's
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(answer.stdout.split()) if answer.returncode == 0 else ()


class GpuPool:
    """Assigns GPUs to runs, the least used first."""

    def __init__(self, gpus: Sequence[str]) -> None:
        self._runs_on = Counter(dict.fromkeys(gpus, 0))

    def take(self, count: int) -> tuple[str, ...]:
        """Return at most `count` GPUs for a run of so many processes; none if the machine has none."""
        least_used = sorted(self._runs_on, key=self._runs_on.__getitem__)[:count]
        self._runs_on.update(least_used)
        return tuple(least_used)

    def give_back(self, gpus: Sequence[str]) -> None:
        """Release the GPUs of a run that has ended."""
        self._runs_on.subtract(gpus)
