"""Head gates with an L0 penalty: training closes the heads that it does not need."""

import math

import torch
from torch import Tensor, nn

from custom_attention.variant import Site, Variant

LOW, HIGH, SHARPNESS = -0.1, 1.1, 2 / 3  # of the hard-concrete distribution, as in the source
OPEN = 2.5  # the gate of a parameter of 0 is exactly 1 in evaluation


class HeadGates(Variant):
    """o_h = g_h attention_h, with a gate g_h in [0, 1], exactly 0 or 1 with some probability; 1 at the start.

    Sources: L0 regularisation (Louizos et al. 2018, arXiv 1712.01312) on heads (Voita et al. 2019, arXiv
    1905.09418). In training the gate is drawn once in each forward; the penalty is `strength` times the
    expected number of open heads. In evaluation it is a constant, which folds into the weights.

    Options:
        strength: what an open head adds to the mean loss of a target
    """

    starts_as_stock = True

    def __init__(self, site: Site, *, strength: float = 0.001) -> None:
        super().__init__(site)
        self.strength = strength
        self.openness = nn.Parameter(torch.zeros(site.num_heads))

    def output_gain(self) -> Tensor:
        location = self.openness + OPEN
        if self.training:
            noise = torch.rand_like(location).clamp(1e-6, 1 - 1e-6)
            location = (location + noise.logit()) / SHARPNESS
        return (torch.sigmoid(location) * (HIGH - LOW) + LOW).clamp(0, 1)[:, None]

    def penalty(self) -> Tensor:
        is_open = torch.sigmoid(self.openness + OPEN - SHARPNESS * math.log(-LOW / HIGH))
        return self.strength * is_open.sum()
