"""Five seeds as one stacked model on the GPU, over the same five one by one (`benchmarks/together.py`)."""

from __future__ import annotations

import statistics
from typing import Any

from scripts.benchmarks import together
from scripts.gpu_check.scale import Scale


def measure(scale: Scale) -> dict[str, Any]:
    """Return the gain of each setting, and the largest difference of a loss."""
    settings = together.SETTINGS[-1:] if scale.is_tiny else together.SETTINGS
    found = {one.name: together.measure(one, scale.device.type, scale.turns) for one in settings}
    return {
        "gain": {name: statistics.median(one["gains"]) for name, one in found.items()},
        "loss_difference": max(one["loss_difference"] for one in found.values()),
    }
