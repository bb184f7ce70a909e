"""The machine and package versions of a run."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

# The packages whose version can change a number.
NUMERIC_PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "accelerate", "numpy")


def environment(config: Mapping[str, Any], device: str, dtypes: Sequence[str] = ()) -> dict[str, Any]:
    """Machine and versions of a run: never part of its hash, always part of its manifest."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "device": device,
        "threads": config["threads"],
        "processes": config["processes"],
        "max_tokens": config["max_tokens"],
        "deterministic": device == "cpu" or config["deterministic"],
        "versions": {name: version(name) for name in NUMERIC_PACKAGES},
    }
