"""Faster dropout of hidden states on a CPU: 16 random bits an element, as in `blockwise.py` for attention.

PyTorch draws a float for each element, which takes a twelfth of a small T5's training step.
"""

from __future__ import annotations

from torch import Tensor, nn

from custom_attention.runtime.blockwise import drop_elements

FEWEST_ELEMENTS = 2**14  # of a tensor; below, PyTorch's dropout is faster


class QuickDropout(nn.Dropout):
    """`nn.Dropout` with other random draws: the rate is exact to 1 / 65,536, and the mean is kept."""

    def forward(self, states: Tensor) -> Tensor:
        if self.training and self.p > 0 and states.numel() >= FEWEST_ELEMENTS:
            return drop_elements(states, self.p)
        return super().forward(states)


def quicken_dropout(model: nn.Module) -> None:
    """Replace every dropout module of `model` in place; calls of `functional.dropout` do not change."""
    for module in model.modules():
        if type(module) is nn.Dropout and not module.inplace:
            module.__class__ = QuickDropout
