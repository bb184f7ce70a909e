"""MPNet: the bias by bucket of distance, which its encoder makes once, reaches every layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.mpnet.modeling_mpnet import MPNetSelfAttention

from custom_attention.runtime.adapter import Adapter
from custom_attention.runtime.dispatch import attention


class BiasedSelfAttention(Adapter, MPNetSelfAttention):
    """softmax(q k^T / sqrt(head_dim) + bias) v, and W_o."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None,
        output_attentions: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, ...]:
        heads = self.num_attention_heads
        query, key, value = (
            layer(hidden_states).unflatten(-1, (heads, -1)).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        output, weights = attention(
            self,
            query,
            key,
            value,
            attention_mask,
            scaling=self.attention_head_size**-0.5,
            dropout=self.dropout.p if self.training else 0.0,
            position_bias=position_bias,
        )
        projected = self.o(output.flatten(2))
        return (projected, weights) if output_attentions and weights is not None else (projected,)


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    position_bias: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Compute what the stock class computes, in its order, to the bit."""
    scores = torch.matmul(query, key.transpose(2, 3)) / (1 / scaling)
    if position_bias is not None:
        scores = scores + position_bias
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = nn.functional.dropout(scores.softmax(-1), dropout)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights
