"""Sinkhorn attention: weights are divided by the sums of their columns too."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Site, Variant, VariantError


class Sinkhorn(Variant):
    """softmax(s_ij - m_h log c_j) v with c_j = sum_k softmax(s)_kj, the sum of a column; m = 0 at the start.

    Source: Sinkformers (Sander et al. 2022, arXiv 2110.11773) with three normalisations, rows, columns, rows,
    which is m = 1. In a causal stack, which the source has not, a query sums the rows up to its own. Column
    sums are of the scores without a position bias or a window. Refused at cross-attention. A cache keeps
    queries too.

    Options:
        form: m learned from 0 as tanh, or fixed at 1 (learned, fixed)
    """

    starts_as_stock: ClassVar = {"form": {"learned": True, "fixed": False}}

    def __init__(self, site: Site, *, form: Literal["learned", "fixed"] = "learned") -> None:
        super().__init__(site)
        if site.is_cross:
            what = f"{site.name} is cross-attention, where a column has the queries of another text"
            raise VariantError("sinkhorn", what, accepted="where: {kind: self} selects self-attention")
        self.form = form
        if form == "learned":
            self.amount = nn.Parameter(torch.zeros(site.num_heads, 1, 1))

    def position_bias(self, bias: Tensor | None, call: Call) -> Tensor:
        heads = self.site.num_heads
        queries = call.along_keys(call.query.transpose(1, 2)).transpose(1, 2)
        keys = call.key.repeat_interleave(heads // call.key.shape[1], 1)
        scores = (queries.float() @ keys.float().mT) * call.scale
        real = call.visible_keys()[:, :1].any(2, keepdim=True)  # a padding query may see none
        real = real.expand(len(scores), -1, -1, -1)
        seen = (real & real.mT).tril() if self.site.is_causal else real & real.mT
        lowest = torch.finfo(scores.dtype).min
        weights = torch.where(seen, torch.where(seen, scores, lowest).softmax(-1), 0)
        sums = weights.cumsum(2) if self.site.is_causal else weights.sum(2, keepdim=True)
        logs = torch.where(sums > 0, sums, 1).log()
        if self.site.is_causal:
            places = call.own_positions()[:, None, :, None].expand(len(scores), heads, -1, logs.shape[-1])
            logs = logs.gather(2, places)
        amount = 1.0 if self.form == "fixed" else torch.tanh(self.amount)
        return -amount * logs if bias is None else bias - amount * logs
