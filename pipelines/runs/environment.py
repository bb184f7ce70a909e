"""The machine and the package versions of a run."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict

# The packages whose version can change a result.
NUMERIC_PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "accelerate", "numpy")


class Environment(TypedDict):
    """Where a run was computed."""

    python: str
    platform: str
    processor: str  # its model: another one may round otherwise
    device: str  # "cpu" or "cuda:0"
    threads: int  # of each process
    processes: int
    max_tokens: int  # padded tokens of a micro-batch
    deterministic: bool
    versions: dict[str, str]  # of `NUMERIC_PACKAGES`


def environment(settings: Mapping[str, Any], device: str) -> Environment:
    """Return the environment of a run: part of its manifest, never of its hash.

    Args:
        settings: `RunConfig.to_dict()`.
    """
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "device": device,
        "threads": settings["threads"],
        "processes": settings["processes"],
        "max_tokens": settings["max_tokens"],
        "deterministic": device == "cpu" or settings["deterministic"],
        "versions": {name: version(name) for name in NUMERIC_PACKAGES},
    }


def _processor() -> str:
    """Return the model of the processor; where the system does not tell, its kind."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8", errors="replace") if information.is_file() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", lines, re.MULTILINE)
    return model[1].strip() if model else platform.processor() or platform.machine()
