"""DeBERTa-v2 and -v3: content-to-position and position-to-content scores as a position bias."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention

from custom_attention.runtime.adapter import Adapter
from custom_attention.runtime.dispatch import attention


class DisentangledAttention(Adapter, DisentangledSelfAttention):
    """softmax(q k^T * scale + c2p + p2c) v, where scale counts the terms: 1 / sqrt(3 head_dim) with both.

    Both terms are made from the model's own queries and keys: a variant of the query or of the scale changes
    q k^T alone.
    """

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        output_attentions: bool = False,
        query_states: Tensor | None = None,
        relative_pos: Tensor | None = None,
        rel_embeddings: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        heads = self.num_attention_heads
        query = self.transpose_for_scores(
            self.query_proj(hidden_states if query_states is None else query_states), heads
        )
        key = self.transpose_for_scores(self.key_proj(hidden_states), heads)
        value = self.transpose_for_scores(self.value_proj(hidden_states), heads)
        num_terms = 1 + ("c2p" in self.pos_att_type) + ("p2c" in self.pos_att_type)
        bias: Any = None
        if self.relative_attention:
            dropped = self.pos_dropout(rel_embeddings)
            bias = self.disentangled_attention_bias(query, key, relative_pos, dropped, num_terms)
        query, key, value = (states.unflatten(0, (-1, heads)) for states in (query, key, value))
        output, weights = attention(
            self,
            query,
            key,
            value,
            torch.where(attention_mask.bool(), 0.0, torch.finfo(query.dtype).min).to(query.dtype),
            scaling=(query.shape[-1] * num_terms) ** -0.5,
            dropout=self.dropout.p if self.training else 0.0,
            position_bias=bias.unflatten(0, (-1, heads)) if isinstance(bias, Tensor) else None,
        )
        return output.flatten(2), weights if output_attentions else None


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
    root = torch.tensor(1 / scaling, dtype=query.dtype)
    scores = torch.matmul(query, key.transpose(2, 3) / root)
    if position_bias is not None:
        scores = scores + position_bias
    if attention_mask is not None:
        lowest = torch.finfo(scores.dtype).min
        scores = (scores + attention_mask).masked_fill(attention_mask <= lowest / 2, lowest)
    weights = nn.functional.dropout(scores.softmax(-1), dropout)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights
