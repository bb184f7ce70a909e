"""Differential extension: a learned map of each head's output is subtracted, more and more in training."""

from typing import Annotated

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Range, Site, Variant


class Dex(Variant):
    """o_h - lambda(t) o_h D_h with D = 0 at the start, and lambda rising over training.

    Source: DEX (Kong et al. 2025, arXiv 2505.16333, figure 9), which adapts some heads of a pretrained model.
    Its lambda is annealed; here it rises in a straight line, and not from 0, so that the first step trains D.

    Options:
        first: lambda at the first step
        last: lambda from `turn` on
        turn: the share of training after which lambda stays
    """

    starts_as_stock = True

    def __init__(
        self,
        site: Site,
        *,
        first: Annotated[float, Range(above=0, at_most=1)] = 0.1,
        last: Annotated[float, Range(above=0, at_most=1)] = 0.8,
        turn: Annotated[float, Range(above=0, at_most=1)] = 0.5,
    ) -> None:
        super().__init__(site)
        self.first, self.last, self.turn = first, last, turn
        self.map = nn.Parameter(torch.zeros(site.num_heads, site.head_dim, site.head_dim))

    def output(self, output: Tensor, call: Call) -> Tensor:
        amount = self.first + (self.last - self.first) * min(call.progress / self.turn, 1.0)
        return (output - amount * (output.to(self.map.dtype) @ self.map)).to(output.dtype)
