"""Selective attention: a token can mark earlier ones as no longer needed by the tokens after it."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Site, Variant, VariantError


class Selective(Variant):
    """softmax(s_ij - m_h sum_{k<i} relu(s_kj of the first head)) v, with m = 0 at the start.

    Source: Leviathan et al. 2024 (arXiv 2410.02703), where m = 1. No token selects itself or the first token.
    Refused at cross-attention and merged attention. With a cache, queries are kept too.

    Options:
        form: m learned from 0 as tanh, or fixed at 1 (learned, fixed)
    """

    starts_as_stock: ClassVar = {"form": {"learned": True, "fixed": False}}

    def __init__(self, site: Site, *, form: Literal["learned", "fixed"] = "learned") -> None:
        super().__init__(site)
        if site.kind != "self":
            what = f"{site.name} is {site.kind}-attention, where not every key comes before or after a query"
            raise VariantError("selective", what, accepted="where: {kind: self} selects self-attention")
        self.form = form
        if form == "learned":
            self.amount = nn.Parameter(torch.zeros(site.num_heads, 1, 1))

    def position_bias(self, bias: Tensor | None, call: Call) -> Tensor:
        queries = call.along_keys(call.query[:, 0])
        scores = torch.matmul(queries.float(), call.key[:, 0].float().mT) * call.scale
        real = call.visible_keys()[:, 0].any(1).expand(len(scores), -1)  # a padding query may see none
        may = real[:, :, None] & real[:, None] & (real.cumsum(1) > 1)[:, None]  # all but the first real key
        selected = torch.where(may, scores.relu(), 0).tril(-1)
        before = (selected.cumsum(1) - selected)[:, None]
        places = call.own_positions()[:, None, :, None].expand(len(scores), 1, -1, before.shape[-1])
        unneeded = before.gather(2, places)
        amount = 1.0 if self.form == "fixed" else torch.tanh(self.amount)
        return -amount * unneeded if bias is None else bias - amount * unneeded
