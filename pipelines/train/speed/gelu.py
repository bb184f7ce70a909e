"""The tanh approximation of GELU as one operation (Hendrycks and Gimpel 2016, section 2).

transformers writes it out in eight operations for GPT-2's `gelu_new` and its kin, and keeps four tensors of
the size of its input for the backward pass: the widest of a layer.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import AccurateGELUActivation, FastGELUActivation, NewGELUActivation

WRITTEN_OUT = (NewGELUActivation, FastGELUActivation, AccurateGELUActivation)


class QuickGELU(nn.Module):
    """The same function up to rounding; only its input is kept."""

    def forward(self, states: Tensor) -> Tensor:
        return functional.gelu(states, approximate="tanh")


def quicken_gelu(model: nn.Module) -> None:
    """Let the activations of `model` that write out the approximation take torch's own, in place."""
    for module in model.modules():
        if type(module) in WRITTEN_OUT:
            module.__class__ = QuickGELU
