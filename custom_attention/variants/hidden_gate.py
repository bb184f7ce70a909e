"""A gate on each head's output or values, computed from the hidden state."""

from typing import Literal

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Site, Variant


class HiddenGate(Variant):
    """o * 2 sigmoid(W x) with W = 0 at the start, where the gate is exactly 1; x is the hidden state.

    Source: gated attention (Qiu et al., NeurIPS 2025, arXiv 2505.06708), which found the elementwise gate on
    the output best. There it is sigmoid(W x) and W is drawn: half of stock attention at the start.

    Options:
        per: one gate for a head (headwise), or for each of its channels (elementwise) (head, channel)
        on: the output, with the query's hidden state, or the values, with the key's (output, value)
    """

    starts_as_stock = True

    def __init__(
        self,
        site: Site,
        *,
        per: Literal["head", "channel"] = "head",
        on: Literal["output", "value"] = "output",
    ) -> None:
        super().__init__(site)
        self.on = on
        heads, size = site.num_heads, site.hidden_size
        if on == "value":
            heads, size = site.num_key_heads, site.key_hidden_size
        self.weight = nn.Parameter(torch.zeros(heads, 1 if per == "head" else site.head_dim, size))

    def value(self, value: Tensor, call: Call) -> Tensor:
        return value * self._gate(call.key_hidden, value) if self.on == "value" else value

    def output(self, output: Tensor, call: Call) -> Tensor:
        return output * self._gate(call.hidden, output) if self.on == "output" else output

    def _gate(self, hidden: Tensor, states: Tensor) -> Tensor:
        reading = nn.functional.linear(hidden.to(self.weight.dtype), self.weight.flatten(0, 1))
        gate = 2 * torch.sigmoid(reading.unflatten(-1, self.weight.shape[:2]).transpose(1, 2))
        return gate.to(states.dtype)
