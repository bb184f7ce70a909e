"""Short tones in noise, labelled by whether they rise, fall or stay the same."""

from __future__ import annotations

import io
import math
import struct
import wave
from random import Random
from typing import Annotated, Any

from pipelines.registry.option_types import Range

RATE = 8000  # samples per second
LABELS = {"falling": -1, "rising": 1, "steady": 0}

Noise = Annotated[float, Range(at_least=0, at_most=1000000)]

Seconds = Annotated[float, Range(at_least=0.1, at_most=3600)]


def generate(
    num_examples: int,
    seed: int,
    split: str,
    seconds: Seconds = 0.25,
    noise: Noise = 0.05,
) -> list[dict[str, Any]]:
    """Generate sounds (bytes of a WAV file) and their labels: columns `audio` and `label`.

    Pitch and range of a tone are drawn, so that no single pitch tells the label. The first n rows
    are the same for every `num_examples`.

    Args:
        num_examples: rows.
        seed: of the corpus; the same on every Python version.
        split: "train", "validation" or "test".
        seconds: largest length of a sound; the smallest is half of it.
        noise: standard deviation of the noise of each sample, where the amplitude is at most 1.
    """
    random = Random(f"attnlab audio classification {seed} {split}")
    return [_row(random, number, seconds, noise) for number in range(num_examples)]


def _row(random: Random, number: int, seconds: float, noise: float) -> dict[str, Any]:
    label = random.choice(sorted(LABELS))
    count = round(RATE * seconds * random.uniform(0.5, 1))
    middle, reach = random.uniform(600, 1600), LABELS[label] * random.uniform(0.5, 1)
    samples, turn = [], random.random()
    for place in range(count):
        turn += middle * (1 + reach * (place / count - 0.5)) / RATE
        value = 0.5 * math.sin(2 * math.pi * turn) + random.gauss(0, noise)
        samples.append(round(32767 * min(1, max(-1, value))))
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(RATE)
        written.writeframes(struct.pack(f"<{count}h", *samples))
    return {"audio": {"bytes": file.getvalue(), "path": f"{number}.wav"}, "label": label}
