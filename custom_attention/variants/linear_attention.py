"""Linear attention: softmax is replaced by the product of positive features of query and key."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Site, Variant


class LinearAttention(Variant):
    """phi(q) phi(k)^T v / sum with phi(x) = [softmax(x A_h), softmax(-x A_h)], A = I at the start.

    Sources: T2R (Kasai et al. 2021, arXiv 2103.13076) and LoLCATs (Zhang et al. 2024, arXiv 2410.10254).
    "learned" moves from stock attention, (1 - m_h) softmax + m_h linear with m = tanh of 0 at the start;
    "replaced" is m = 1. It computes the function of linear attention under any mask, not at its speed. A
    position bias multiplies the products by its exponential, as it does in the softmax.

    Options:
        form: mixed from 0, or alone (learned, replaced)
    """

    starts_as_stock: ClassVar = {"form": {"learned": True, "replaced": False}}

    def __init__(self, site: Site, *, form: Literal["learned", "replaced"] = "learned") -> None:
        super().__init__(site)
        self.form = form
        size = (site.num_heads, site.head_dim, site.head_dim)
        self.of_query, self.of_key = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(size))
        if form == "learned":
            self.amount = nn.Parameter(torch.zeros(site.num_heads, 1, 1))

    def attend(self, call: Call) -> Tensor:
        query, key, value = call.states
        keys = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
        linear = call.attend_by(self._features(query, self.of_query) @ self._features(keys, self.of_key).mT)
        if self.form == "replaced":
            return linear
        softmax = call.attend(query, key, value)
        return (softmax + torch.tanh(self.amount) * (linear - softmax)).to(value.dtype)

    def _features(self, states: Tensor, change: Tensor) -> Tensor:
        states = states.float()
        mapped = states + states @ change.float()
        return torch.cat([mapped.softmax(-1), (-mapped).softmax(-1)], -1)
