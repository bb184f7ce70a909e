"""The difference of two attention maps, the second with projections of its own."""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Site, Variant


class ProjectedDifferential(Variant):
    """(P_1 - lambda_h P_2) v, where P_2 comes from W_q2 x and W_k2 x; lambda = tanh(a_h), a = 0 at the start.

    Source: differential transformer (Ye et al. 2024, arXiv 2410.05258), without its norm of each head. W_q2
    and W_k2 are drawn as any linear layer; in rotary models they are not rotated. `differential` derives the
    second map from the query, with fewer parameters.

    Options:
        start: lambda of 0, or the paper's 0.8 - 0.6 exp(-0.3 l) of layer l = 0, 1, ... (zero, paper)
    """

    starts_as_stock: ClassVar = {"start": {"zero": True, "paper": False}}

    def __init__(self, site: Site, *, start: Literal["zero", "paper"] = "zero") -> None:
        super().__init__(site)
        self.start = start
        first = 0.0 if start == "zero" else math.atanh(0.8 - 0.6 * math.exp(-0.3 * site.layer))
        self.mix = nn.Parameter(torch.full((site.num_heads, 1, 1), first))
        self.of_query = nn.Linear(site.hidden_size, site.num_heads * site.head_dim, bias=False)
        self.of_key = nn.Linear(site.key_hidden_size, site.num_key_heads * site.head_dim, bias=False)

    def output(self, output: Tensor, call: Call) -> Tensor:
        query = self._heads(self.of_query, call.hidden).to(call.query.dtype)
        key = self._heads(self.of_key, call.key_hidden).to(call.key.dtype)
        other = call.attend(query, key, call.value)
        return (output - torch.tanh(self.mix) * other).to(output.dtype)

    def _heads(self, projection: nn.Linear, hidden: Tensor) -> Tensor:
        states = projection(hidden.to(projection.weight.dtype))
        return states.unflatten(-1, (-1, self.site.head_dim)).transpose(1, 2)
