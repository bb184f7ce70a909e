"""Self-attention in its plainest form: no fused kernel, no cache, each step one line of the formula."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from custom_attention.errors import VariantError

PROJECTIONS = ("none", "shared", "separate")
SCALES = ("none", "1/sqrt(d_k)", "learned")


class ScaledSelfAttention(nn.Module):
    """softmax(scale * Q K^T) V over the tokens of a sequence (Vaswani et al. 2017, arXiv 1706.03762, 3.2).

    It is documentation that runs, and the reference in the tests of the variants. To swap attention in a
    model, use `attach`. An idea about attention replaces one method: `scores` or `weigh`.

    Args:
        embed_dim: length of a token's vector, d_model.
        num_heads: number of independent heads, each with head_dim = d_k = embed_dim / num_heads.
        projections: where queries, keys and values come from.
            none: the embeddings themselves are all three (no parameters, no output projection).
            shared: one learned projection makes all three.
            separate: one projection each, and the output projection W_o, as usual.
        scale: the factor on Q K^T: 1, 1/sqrt(d_k), or exp(t_h)/sqrt(d_k) with t_h learned per head from 0.

    Raises:
        VariantError: a name that is not listed above, or heads that do not divide the embedding.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        num_heads: int = 1,
        projections: Literal["none", "shared", "separate"] = "separate",
        scale: Literal["none", "1/sqrt(d_k)", "learned"] = "1/sqrt(d_k)",
    ) -> None:
        super().__init__()
        for name, value, accepted in (
            ("projections", projections, PROJECTIONS),
            ("scale", scale, SCALES),
        ):
            if value not in accepted:
                where = f"ScaledSelfAttention.{name}"
                raise VariantError(where, "not accepted", value, f"one of {', '.join(accepted)}")
        if num_heads < 1 or embed_dim % num_heads:
            where, divisor = "ScaledSelfAttention.num_heads", f"a divisor of embed_dim, {embed_dim}"
            raise VariantError(where, "heads share a vector", num_heads, divisor)
        self.num_heads, self.head_dim = num_heads, embed_dim // num_heads
        self.constant = 1.0 if scale == "none" else 1 / math.sqrt(self.head_dim)
        self.log_temperature = nn.Parameter(torch.zeros(num_heads, 1, 1)) if scale == "learned" else None
        learned = projections != "none"
        self.query = nn.Linear(embed_dim, embed_dim) if learned else nn.Identity()
        separate = projections == "separate"
        self.key = nn.Linear(embed_dim, embed_dim) if separate else self.query
        self.value = nn.Linear(embed_dim, embed_dim) if separate else self.query
        self.output = nn.Linear(embed_dim, embed_dim) if separate else nn.Identity()

    def forward(
        self, x: Tensor, mask: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return each token's mean of the values, by its weights on all tokens.

        Args:
            x: token vectors, (batch, len, embed_dim).
            mask: True where a query sees a key, broadcasts to (batch, heads, query_len, key_len); None: all.
            return_weights: also return the weights, (batch, heads, query_len, key_len).

        Returns:
            Token vectors, (batch, len, embed_dim): one per token. A query that sees no key gets the
            output projection of zeros.
        """
        query, key, value = (self.heads(project(x)) for project in (self.query, self.key, self.value))
        weights = self.weigh(self.scores(query, key), mask)
        heads = weights @ value  # (batch, heads, query_len, head_dim)
        output = self.output(heads.transpose(1, 2).flatten(2))
        return (output, weights) if return_weights else output

    def heads(self, states: Tensor) -> Tensor:
        """Return (batch, len, embed_dim) as (batch, heads, len, head_dim)."""
        return states.unflatten(2, (self.num_heads, self.head_dim)).transpose(1, 2)

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        """Return scale * Q K^T, (batch, heads, query_len, key_len): one number for each query and key."""
        scores = query @ key.transpose(2, 3) * self.constant
        return scores if self.log_temperature is None else self.log_temperature.exp() * scores

    def weigh(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Return the softmax of each row over its visible keys; 0 at every other key."""
        if mask is None:
            return scores.softmax(-1)
        return scores.masked_fill(~mask, -math.inf).softmax(-1).masked_fill(~mask, 0.0)
