"""A learned factor on each channel of what attention adds to the hidden states."""

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Site, Variant


class LayerScale(Variant):
    """(1 + g) * (W_o o + b) with g = 0 at the start, one factor for each channel after W_o.

    Sources: LayerScale (Touvron et al. 2021, arXiv 2103.17239) and ReZero (Bachlechner et al. 2020, arXiv
    2003.04887). There the factor is 0 or small at the start of training from scratch; here it is 1.
    """

    starts_as_stock = True

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.gain = nn.Parameter(torch.zeros(site.projected_size))

    def projected(self, output: Tensor, call: Call) -> Tensor:
        return (output * (1 + self.gain)).to(output.dtype)
