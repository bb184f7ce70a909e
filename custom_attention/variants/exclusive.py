"""Exclusive self-attention: the direction of the token's own value is subtracted from its output."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Site, Variant, VariantError


class Exclusive(Variant):
    """o_i - c_h (o_i . u_i) u_i, where u_i is the direction of the query's own value, c = tanh(a_h) or 1.

    Source: exclusive self-attention (arXiv 2603.09078). The form "fixed" (c = 1) is for training from
    scratch, "learned" (a = 0 at the start) for fine-tuning. Refused at cross-attention.

    Options:
        form: learned from 0, or the full subtraction (learned, fixed)
    """

    starts_as_stock: ClassVar = {"form": {"learned": True, "fixed": False}}

    def __init__(self, site: Site, *, form: Literal["learned", "fixed"] = "learned") -> None:
        super().__init__(site)
        if site.is_cross:
            where = "where: {kind: self} selects self-attention"
            raise VariantError(
                "exclusive", f"{site.name} is cross-attention, which has no own value", accepted=where
            )
        self.form = form
        if form == "learned":
            self.strength = nn.Parameter(torch.zeros(site.num_heads))

    def output(self, output: Tensor, call: Call) -> Tensor:
        own = nn.functional.normalize(call.own_value().float(), dim=-1)
        along = (output * own).sum(-1, keepdim=True) * own
        amount = torch.tanh(self.strength)[:, None, None] if self.form == "learned" else 1.0
        return (output - amount * along).to(output.dtype)
