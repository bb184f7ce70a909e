"""A learned linear penalty on distance."""

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Site, Variant, VariantError


class Alibi(Variant):
    """softmax(s - m_h |i - j|) v with learned slopes m, 0 at the start.

    Source: ALiBi (Press et al. 2021, arXiv 2108.12409), whose slopes are fixed and positive. Here they are
    learned, in addition to the model's own positions. It is a float bias, which flash kernels do not take.
    """

    starts_as_stock = True

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        if site.kind != "self":
            where = "where: {kind: self} selects self-attention"
            raise VariantError(
                "alibi",
                f"{site.name} is {site.kind}-attention, where not every key has a distance",
                accepted=where,
            )
        self.slope = nn.Parameter(torch.zeros(site.num_heads))

    def offset_bias(self, offsets: Tensor, call: Call) -> Tensor:
        return -self.slope[:, None] * offsets.abs().to(self.slope.dtype)
