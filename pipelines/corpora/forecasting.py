"""Two hourly series with a daily and a weekly cycle; the second follows the first with a delay."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from random import Random
from typing import Annotated, Any

from pipelines.registry.option_types import Range

BEGIN = datetime(2024, 1, 1)
LAG = 3  # hours by which the second series is delayed

Noise = Annotated[float, Range(at_least=0, at_most=1000000)]


def generate(
    num_examples: int,
    seed: int,
    split: str,
    noise: Noise = 0.2,
) -> list[dict[str, Any]]:
    """Generate the rows of one series of two channels: columns `time`, `load` and `heat`.

    The first n rows are the same for every `num_examples`.

    Args:
        num_examples: rows, one per hour.
        seed: of the corpus; the same on every Python version.
        split: "train", "validation" or "test"; each has its own phase.
        noise: standard deviation of the noise, where the daily cycle has amplitude 1.
    """
    random = Random(f"attnlab forecasting {seed} {split}")
    phase, week = random.uniform(0, 24), random.uniform(0, 168)
    return [_row(random, hour, phase, week, noise) for hour in range(num_examples)]


def _row(random: Random, hour: int, phase: float, week: float, noise: float) -> dict[str, Any]:
    def swing(at: float) -> float:
        return math.sin(2 * math.pi * (at + phase) / 24) + 0.5 * math.sin(2 * math.pi * (at + week) / 168)

    return {
        "time": (BEGIN + timedelta(hours=hour)).isoformat(" "),
        "load": round(10 + 4 * (swing(hour) + random.gauss(0, noise)), 3),
        "heat": round(30 + 2 * (swing(hour - LAG) + random.gauss(0, noise)), 3),
    }
