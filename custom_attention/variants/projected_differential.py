"""The difference of two attention maps, the second with projections of its own."""

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Site, Variant


class ProjectedDifferential(Variant):
    """(P_1 - lambda_h P_2) v, where P_2 comes from W_q2 x and W_k2 x; lambda = tanh(a_h), a = 0 at the start.

    Source: differential transformer (Ye et al. 2024, arXiv 2410.05258), without its norm of each head. W_q2
    and W_k2 are drawn as any linear layer; in rotary models they are not rotated. `differential` derives the
    second map from the query, with fewer parameters.
    """

    starts_as_stock = True

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.mix = nn.Parameter(torch.zeros(site.num_heads, 1, 1))
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
