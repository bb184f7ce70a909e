"""A learned factor on what attention adds to the hidden states."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Site, Variant

FIRST_FACTOR = {
    "channel": 0.1,
    "layer": 0.0,
}  # the first factor of LayerScale (up to 18 layers) and of ReZero


class LayerScale(Variant):
    """(1 + g) * (W_o o + b) with g = 0 at the start, after W_o.

    Sources: LayerScale (Touvron et al. 2021, arXiv 2103.17239, equation 4), one factor for each channel, 0.1
    at the start; ReZero (Bachlechner et al. 2020, arXiv 2003.04887, equation 1), one for a layer, 0 at the
    start.

    Options:
        per: the unit that has one factor, as in LayerScale or in ReZero (channel, layer)
        start: a factor of 1, or the paper's, for training from scratch (zero, paper)
    """

    starts_as_stock: ClassVar = {"start": {"zero": True, "paper": False}}

    def __init__(
        self,
        site: Site,
        *,
        per: Literal["channel", "layer"] = "channel",
        start: Literal["zero", "paper"] = "zero",
    ) -> None:
        super().__init__(site)
        self.start = start
        first = 0.0 if start == "zero" else FIRST_FACTOR[per] - 1
        self.gain = nn.Parameter(torch.full((site.projected_size if per == "channel" else 1,), first))

    def projected(self, output: Tensor, call: Call) -> Tensor:
        return (output * (1 + self.gain)).to(output.dtype)
