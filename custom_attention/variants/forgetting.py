"""Forgetting attention: a gate on each token, from its hidden state, fades what lies behind it."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Site, Variant, VariantError


class Forgetting(Variant):
    """softmax(s_ij + m_h sum of log f_l between j and i) v with f_l = sigmoid(w_h . x_l + b_h); m = 0 at the
    start.

    Source: the forgetting transformer (Lin et al. 2025, arXiv 2503.02130), where m = 1. The sum runs over l
    from j + 1 to i; in a stack that is not causal also from i + 1 to j. Refused at cross-attention and
    merged attention.

    Options:
        form: m learned from 0 as tanh, or fixed at 1 (learned, fixed)
    """

    starts_as_stock: ClassVar = {"form": {"learned": True, "fixed": False}}

    def __init__(self, site: Site, *, form: Literal["learned", "fixed"] = "learned") -> None:
        super().__init__(site)
        if site.kind != "self":
            what = f"{site.name} is {site.kind}-attention, where not every key comes before or after a query"
            raise VariantError("forgetting", what, accepted="where: {kind: self} selects self-attention")
        self.form = form
        self.weight = nn.Parameter(torch.zeros(site.num_heads, site.hidden_size))
        self.offset = nn.Parameter(torch.zeros(site.num_heads))
        if form == "learned":
            self.amount = nn.Parameter(torch.zeros(site.num_heads, 1, 1))

    def position_bias(self, bias: Tensor | None, call: Call) -> Tensor:
        reading = nn.functional.linear(call.hidden.to(self.weight.dtype), self.weight, self.offset)
        total = call.along_keys(nn.functional.logsigmoid(reading.float())).cumsum(1).transpose(1, 2)
        places = call.own_positions()[:, None].expand(total.shape[0], total.shape[1], -1)
        between = -(total.gather(2, places)[..., None] - total[:, :, None]).abs()
        fading = between if self.form == "fixed" else torch.tanh(self.amount) * between
        return fading if bias is None else bias + fading
