"""How large the measurements are: real sizes on a GPU, or a tiny rehearsal on the CPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Scale:
    """Sizes and repetitions of all parts.

    Attributes:
        is_tiny: models of a few thousand parameters, so that the check itself can be tested on a CPU.
        turns: of each side of a comparison.
        steps: of one turn.
    """

    is_tiny: bool
    turns: int
    steps: int

    @property
    def device(self) -> torch.device:
        return torch.device("cpu" if self.is_tiny else "cuda")

    @property
    def precision(self) -> str:
        return "float32" if self.is_tiny else "bfloat16"

    def wait(self) -> None:
        """Wait until the device has done all work, so that a clock measures it."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


FULL = Scale(is_tiny=False, turns=3, steps=8)
TINY = Scale(is_tiny=True, turns=1, steps=2)
