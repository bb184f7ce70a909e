"""A gate from the hidden state on one of the five places of an attention layer."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from custom_attention.variant import Call, Site, Variant

HIDDEN_GATE_DEVIATION = 0.02  # of the weights of a gate that is drawn, as of transformers' own layers


class HiddenGate(Variant):
    """o * 2 sigmoid(W x) with W = 0 at the start, where the gate is exactly 1; x is the hidden state.

    Source: gated attention (Qiu et al., NeurIPS 2025, arXiv 2505.06708), which compares the five places and
    found the elementwise gate on the output best. There it is sigmoid(W x) and W is drawn: half of stock
    attention at the start. In rotary models queries and keys are gated after their rotation.

    Options:
        per: one gate for a head (headwise), or for each of its channels (elementwise); after W_o one gate for
            a token, or for each channel (head, channel)
        on: the output, query or projected output with the query's hidden state, the key or value with the
            key's (output, query, key, value, projected)
        start: 1 exactly, near 1 with W drawn, or the paper's sigmoid(W x) with W drawn (zero, small, paper)
    """

    starts_as_stock: ClassVar = {"start": {"zero": True, "small": False, "paper": False}}

    def __init__(
        self,
        site: Site,
        *,
        per: Literal["head", "channel"] = "head",
        on: Literal["output", "query", "key", "value", "projected"] = "output",
        start: Literal["zero", "small", "paper"] = "zero",
    ) -> None:
        super().__init__(site)
        self.hooks = frozenset({on})
        self.start, self.most = start, 1 if start == "paper" else 2
        units, channels, size = site.num_heads, site.head_dim, site.hidden_size
        if on in ("key", "value"):
            units, size = site.num_key_heads, site.key_hidden_size
        if on == "projected":
            units, channels = 1, site.projected_size
        self.weight = nn.Parameter(torch.zeros(units, 1 if per == "head" else channels, size))
        if start != "zero":
            nn.init.normal_(self.weight, std=HIDDEN_GATE_DEVIATION)

    def query(self, query: Tensor, call: Call) -> Tensor:
        return query * self._gate(call.hidden, query) if "query" in self.hooks else query

    def key(self, key: Tensor, call: Call) -> Tensor:
        return key * self._gate(call.key_hidden, key)

    def value(self, value: Tensor, call: Call) -> Tensor:
        return value * self._gate(call.key_hidden, value)

    def output(self, output: Tensor, call: Call) -> Tensor:
        return output * self._gate(call.hidden, output) if "output" in self.hooks else output

    def projected(self, output: Tensor, call: Call) -> Tensor:
        return output * self._gate(call.hidden, output)[:, 0]

    def _gate(self, hidden: Tensor, states: Tensor) -> Tensor:
        """Return the factors, (batch, units, len, 1 | channels)."""
        reading = nn.functional.linear(hidden.to(self.weight.dtype), self.weight.flatten(0, 1))
        gate = self.most * torch.sigmoid(reading.unflatten(-1, self.weight.shape[:2]).transpose(1, 2))
        return gate.to(states.dtype)
