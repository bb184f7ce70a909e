"""A gate on each head's output, computed from the query."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Site, Variant

GATE_DEVIATION = 0.1  # of the weights of a small start: gates of about 0.9 to 1.1 for queries of size 1


class Gate(Variant):
    """o_h * 2 sigmoid(w_h . q_h / sqrt(d) + b_h) with w = b = 0 at the start, where the gate is exactly 1.

    Source: output gates per head of Bondarenko et al. 2023 (arXiv 2306.12929) and Qiu et al. 2025 (arXiv
    2505.06708). There the gate depends on the hidden state, as in `hidden_gate`, here on the query, which is
    shorter.

    Options:
        start: 1 exactly, or near 1 with w drawn (zero, small)
    """

    starts_as_stock: ClassVar = {"start": {"zero": True, "small": False}}

    def __init__(self, site: Site, *, start: Literal["zero", "small"] = "zero") -> None:
        super().__init__(site)
        self.start = start
        self.weight = nn.Parameter(torch.zeros(site.num_heads, site.head_dim))
        self.offset = nn.Parameter(torch.zeros(site.num_heads))
        if start == "small":
            nn.init.normal_(self.weight, std=GATE_DEVIATION)

    def output(self, output: Tensor, call: Call) -> Tensor:
        reading = torch.einsum("bhqd,hd->bhq", call.query.to(self.weight.dtype), self.weight)
        gate = 2 * torch.sigmoid(reading * self.site.head_dim**-0.5 + self.offset[:, None])
        return (output * gate[..., None]).to(output.dtype)
