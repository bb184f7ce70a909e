"""Selective self-attention: a temperature for each query and for each value, from the hidden state."""

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Site, Variant


class TokenTemperature(Variant):
    """softmax(t_i q_i k^T * scale) (u_j v_j) with t = 1 + tanh(w_h . x_i) and u = 1 + tanh(z_h . x_j).

    Both are 1 at the start, where w = z = 0. Source: Zhang et al. 2024 (arXiv 2411.12892), without its term
    of the position; `log_length` has one.
    """

    starts_as_stock = True

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.of_query = nn.Parameter(torch.zeros(site.num_heads, site.hidden_size))
        self.of_value = nn.Parameter(torch.zeros(site.num_key_heads, site.key_hidden_size))

    def query(self, query: Tensor, call: Call) -> Tensor:
        return query * self._temperature(call.hidden, self.of_query).to(query.dtype)

    def value(self, value: Tensor, call: Call) -> Tensor:
        return value * self._temperature(call.key_hidden, self.of_value).to(value.dtype)

    def _temperature(self, hidden: Tensor, weight: Tensor) -> Tensor:
        reading = nn.functional.linear(hidden.to(weight.dtype), weight)
        return 1 + torch.tanh(reading).transpose(1, 2)[..., None]
