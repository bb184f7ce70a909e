"""Value residual: the values of the first layer are added to those of every later one."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Site, Variant


class ValueResidual(Variant):
    """(1 + a_h) v + b_h v_1 with a = b = 0 at the start; v_1 are the values of the first site of its kind.

    Source: ResFormer (Zhou et al. 2024, arXiv 2410.17897). "learned" has two factors for each head, "fixed"
    is (v + v_1) / 2, for training from scratch. Encoder, decoder and cross-attention have a first site each.

    Options:
        form: learned from 0, or the mean of both (learned, fixed)
    """

    starts_as_stock: ClassVar = {"form": {"learned": True, "fixed": False}}

    def __init__(self, site: Site, *, form: Literal["learned", "fixed"] = "learned") -> None:
        super().__init__(site)
        self.form = form
        if form == "learned" and site.layer > 0:
            self.own = nn.Parameter(torch.zeros(site.num_key_heads, 1, 1))
            self.first = nn.Parameter(torch.zeros(site.num_key_heads, 1, 1))

    def value(self, value: Tensor, call: Call) -> Tensor:
        earlier = call.earlier("value")
        if not earlier:
            call.publish("value", call.value)
            return value
        if self.form == "fixed":
            return (value + earlier[0]) / 2
        return (value * (1 + self.own) + earlier[0] * self.first).to(value.dtype)
