"""A temperature for each query, computed from the query itself."""

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Site, Variant


class QueryTemperature(Variant):
    """softmax(tau_i q_i k^T * scale) v with tau_i = exp(tanh(w_h . q_i / sqrt(d) + b_h)), 1 at the start.

    Sources: self-adaptive temperature (Lin et al. 2018, arXiv 1808.07374) and selective self-attention
    (Zhang et al. 2024, arXiv 2411.12892). tau is between 1/e and e. It depends on the input, so it cannot be
    folded.
    """

    starts_as_stock = True

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.weight = nn.Parameter(torch.zeros(site.num_heads, site.head_dim))
        self.offset = nn.Parameter(torch.zeros(site.num_heads))

    def query(self, query: Tensor, call: Call) -> Tensor:
        reading = torch.einsum("bhqd,hd->bhq", call.query.to(self.weight.dtype), self.weight)
        temperature = torch.exp(torch.tanh(reading * self.site.head_dim**-0.5 + self.offset[:, None]))
        return (query * temperature[..., None]).to(query.dtype)
