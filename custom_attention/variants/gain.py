"""A constant multiplier of each head's output, or of each channel of it."""

from typing import Literal

import torch
from torch import Tensor, nn

from custom_attention.variant import Site, Variant


class Gain(Variant):
    """o_h * (1 + g_h) with g = 0 at the start.

    Sources: l_v of (IA)^3 (Liu et al. 2022, arXiv 2205.05638), head scaling of LoFiT (Yin et al. 2024, arXiv
    2406.01563). Folds into W_v or W_o, so only optimisation differs: the control for a gate.

    Options:
        per: the unit that has a gain of its own (head, channel)
    """

    starts_as_stock = True

    def __init__(self, site: Site, *, per: Literal["head", "channel"] = "head") -> None:
        super().__init__(site)
        self.excess = nn.Parameter(torch.zeros(site.num_heads, 1 if per == "head" else site.head_dim))

    def output_gain(self) -> Tensor:
        return 1 + self.excess
