"""The difference of two attention maps, the second from a learned map of the query."""

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Site, Variant


class Differential(Variant):
    """(P_1 - lambda_h P_2) v, where P_2 comes from the query q + q M_h; lambda = tanh(a_h), a = M = 0 at
    the start.

    Source: differential transformer (Ye et al. 2024, arXiv 2410.05258). There the second query is another
    projection of the hidden state, as in `projected_differential`. Here it is a linear map of the query. It
    costs a second attention call.
    """

    starts_as_stock = True

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.mix = nn.Parameter(torch.zeros(site.num_heads))
        self.second = nn.Parameter(torch.zeros(site.num_heads, site.head_dim, site.head_dim))

    def output(self, output: Tensor, call: Call) -> Tensor:
        query = call.query.to(self.second.dtype)
        query = (query + torch.einsum("bhqd,hde->bhqe", query, self.second)).to(call.query.dtype)
        other = call.attend(query, call.key, call.value)
        return (output - torch.tanh(self.mix)[:, None, None] * other).to(output.dtype)
