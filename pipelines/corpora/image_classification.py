"""Small grey images of stripes in noise, labelled by the direction of the stripes."""

from __future__ import annotations

import math
from random import Random
from typing import Annotated, Any

from pipelines.registry.option_types import Range

SIDE = 24  # pixels
ANGLES = {
    "horizontal": 90,
    "vertical": 0,
    "rising": 45,
    "falling": 135,
}  # of the direction in which brightness changes

Noise = Annotated[float, Range(at_least=0, at_most=1000000)]


def generate(
    num_examples: int,
    seed: int,
    split: str,
    noise: Noise = 40.0,
) -> list[dict[str, Any]]:
    """Generate images (bytes of a PGM file) and their labels: columns `image` and `label`.

    Wavelength, phase and contrast are drawn, so that no single pixel tells the direction. The first n rows
    are the same for every `num_examples`.

    Args:
        num_examples: rows.
        seed: of the corpus; the same on every Python version.
        split: "train", "validation" or "test".
        noise: standard deviation of the noise of each pixel, from 0 to 255.
    """
    random = Random(f"attnlab image classification {seed} {split}")
    return [_row(random, number, noise) for number in range(num_examples)]


def _row(random: Random, number: int, noise: float) -> dict[str, Any]:
    label = random.choice(sorted(ANGLES))
    angle = math.radians(ANGLES[label] + random.uniform(-12, 12))
    wave, phase, contrast = random.uniform(5, 10), random.uniform(0, 2 * math.pi), random.uniform(40, 100)
    pixels = bytes(
        min(255, max(0, round(128 + contrast * math.sin(along) + random.gauss(0, noise))))
        for along in (
            phase + 2 * math.pi / wave * (x * math.cos(angle) + y * math.sin(angle))
            for y in range(SIDE)
            for x in range(SIDE)
        )
    )
    content = f"P5 {SIDE} {SIDE} 255\n".encode() + pixels
    return {"image": {"bytes": content, "path": f"{number}.pgm"}, "label": label}
