"""A gate on each head's output, read from the query."""

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Site, Variant


class Gate(Variant):
    """o_h * 2 sigmoid(w_h . q_h / sqrt(d) + b_h) with w = b = 0 at the start, so that the gate opens at
    exactly 1.

    Source: headwise output gates of Bondarenko et al. 2023 (arXiv 2306.12929) and Qiu et al. 2025 (arXiv
    2505.06708); reading the query instead of the hidden state is ours, because the query is what arrives at
    every attention.
    """

    starts_as_stock = True

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.weight = nn.Parameter(torch.zeros(site.num_heads, site.head_dim))
        self.offset = nn.Parameter(torch.zeros(site.num_heads))

    def output(self, output: Tensor, call: Call) -> Tensor:
        reading = torch.einsum("bhqd,hd->bhq", call.query.to(self.weight.dtype), self.weight)
        gate = 2 * torch.sigmoid(reading * self.site.head_dim**-0.5 + self.offset[:, None])
        return (output * gate[..., None]).to(output.dtype)
