"""Dropout of hidden states on a CPU with 16 random bits for each element, as attention's (`blockwise.py`).

PyTorch draws a slow number for each, which is a twelfth of a small T5's training step.
"""

from __future__ import annotations

from torch import Tensor, nn

from custom_attention.runtime.blockwise import drop_elements

FEWEST_ELEMENTS = 2**14  # of a tensor from which this is faster


class QuickDropout(nn.Dropout):
    """`nn.Dropout` with other draws: the same share is dropped, to 1 / 65,536, and the mean is exact."""

    def forward(self, states: Tensor) -> Tensor:
        if self.training and self.p > 0 and states.numel() >= FEWEST_ELEMENTS:
            return drop_elements(states, self.p)
        return super().forward(states)


def quicken_dropout(model: nn.Module) -> None:
    """Change every dropout module of `model` in place; what calls `functional.dropout` stays as it is."""
    for module in model.modules():
        if type(module) is nn.Dropout and not module.inplace:
            module.__class__ = QuickDropout
