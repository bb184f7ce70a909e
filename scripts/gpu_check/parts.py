"""The parts of the check, in the order of their worth, each in a process of its own with a time limit."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from scripts.gpu_check.jobs import JOBS
from scripts.gpu_check.scale import Scale

Measure = Callable[[Scale], dict[str, Any]]


class Part(NamedTuple):
    """One measurement.

    Attributes:
        seconds: after which it is stopped; the usual time is a half of it.
    """

    name: str
    seconds: int
    measure: Measure


def _late(module: str, function: str, *arguments: str) -> Measure:
    """Return a function that imports its module when it is called: in its own process."""

    def measure(scale: Scale) -> dict[str, Any]:
        return getattr(import_module(f"scripts.gpu_check.{module}"), function)(*arguments, scale)

    return measure


PARTS = (
    Part("card", 40, _late("card", "measure")),
    *(Part(f"training: {job.name}", 75, _late("training", "measure", job.name)) for job in JOBS),
    Part("equality with the CPU", 90, _late("equality", "measure")),
    Part("deterministic kernels", 60, _late("repeats", "deterministic")),
    Part("stop and resume", 60, _late("repeats", "resume")),
    Part("waits for the GPU", 90, _late("waits", "measure")),
    Part("runs that share the card", 90, _late("sharing", "measure")),
    Part("seeds together", 60, _late("seeds", "measure")),
    Part("variants", 120, _late("variants", "measure")),
)


def run(part: Part, scale: Scale, seconds: float) -> dict[str, Any]:
    """Measure one part in a fork, for at most so many seconds.

    Returns:
        What it measured, or `failed`: why not. The wall-clock `seconds` are added.
    """
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "measured.json"
        child = multiprocessing.get_context("fork").Process(target=_in_child, args=(part, scale, answer))
        child.start()
        assert child.pid is not None
        child.join(seconds)
        if child.is_alive():
            os.killpg(child.pid, signal.SIGKILL)
            child.join()
            found = {"failed": f"not finished after {seconds:.0f} seconds"}
        elif answer.exists():
            found = json.loads(answer.read_text(encoding="utf-8"))
        else:
            found = {"failed": f"its process ended with status {child.exitcode}"}
    return found | {"seconds": round(time.monotonic() - begun, 1)}


def _in_child(part: Part, scale: Scale, answer: Path) -> None:
    os.setpgid(0, 0)  # what it starts is stopped with it
    try:
        found = part.measure(scale)
    except Exception as error:  # one part must not stop the others, whatever a new card does
        traceback.print_exc(limit=-3)
        found = {"failed": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"}
    answer.write_text(json.dumps(found), encoding="utf-8")
