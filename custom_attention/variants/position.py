"""Another position scheme in place of the model's own: rotary, linear penalties on distance, or none."""

from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from custom_attention.variant import Call, Range, Site, Variant, VariantError


class Position(Variant):
    """softmax(q_i R_(j-i) k_j - m_h |i - j|) v with R, with m or with neither, for the model's own positions.

    The model's table of positions, or its position bias, gives way to another scheme. "rope" rotates queries
    and keys (Su et al. 2021, arXiv 2104.09864) by pairs from both halves of a head, as transformers does;
    "alibi" adds -m_h |i - j| with the slopes of Press et al. 2021 (arXiv 2108.12409), on both sides in a
    stack that is not causal; "none" is NoPE (Kazemnejad et al. 2023, arXiv 2305.19466); "learned" is the
    model's own. Whole stacks only; refused where positions are in the queries already.

    Options:
        scheme: what tells positions apart (rope, alibi, none, learned)
        base: of the wavelengths of rope
    """

    starts_as_stock: ClassVar = {"scheme": {"learned": True, "none": False, "rope": False, "alibi": False}}

    def __init__(
        self,
        site: Site,
        *,
        scheme: Literal["rope", "alibi", "none", "learned"] = "rope",
        base: Annotated[float, Range(above=1)] = 10000.0,
    ) -> None:
        super().__init__(site)
        self.scheme, self.base = scheme, base
        of_scheme = {"rope": {"query", "key"}, "alibi": {"position_bias"}, "none": set(), "learned": set()}
        self.hooks = frozenset(of_scheme[scheme])
        if scheme == "learned":
            return
        if site.is_cross:
            what = f"{site.name} is cross-attention, where queries and keys have no common order"
            raise VariantError("position", what, accepted="where: {kind: self} selects self-attention")
        if not (site.position_table or site.has_position_bias):
            what = f"{site.name} has neither a table of positions nor a position bias that could be left out"
            raise VariantError("position", what, accepted="BERT, GPT-2, T5, BART and others like them")
        self.hooks |= {"position_embedding"} if site.position_table else set()
        self.hooks |= {"position_bias"} if site.has_position_bias else set()

    def position_embedding(self, embedding: Tensor) -> Tensor:
        return embedding * 0  # not new zeros: processes wait for a gradient of the table, which is then 0

    def query(self, query: Tensor, call: Call) -> Tensor:
        return self._rotated(query, call.own_positions()) if self.scheme == "rope" else query

    def key(self, key: Tensor, call: Call) -> Tensor:
        return self._rotated(key, torch.arange(key.shape[2], device=key.device)[None])

    def position_bias(self, bias: Tensor | None, call: Call) -> Tensor | None:
        # As above; where no gradient is asked for, it can be left out.
        left_out = bias * 0 if bias is not None and bias.requires_grad else None
        if self.scheme != "alibi":
            return left_out
        slopes = torch.tensor(slopes_of(self.site.num_heads), device=call.query.device)
        penalty = -slopes[:, None, None] * call.offsets().abs()[:, None]
        return penalty if left_out is None else penalty + left_out

    def _rotated(self, states: Tensor, places: Tensor) -> Tensor:
        """Rotate states (batch, heads, len, head_dim) by places (1 | batch, len); an odd channel stays."""
        half = states.shape[-1] // 2
        powers = torch.arange(half, device=states.device, dtype=torch.float32) / half
        angles = (places[..., None] * self.base**-powers)[:, None]
        first, second = states[..., :half].float(), states[..., half : 2 * half].float()
        cos, sin = angles.cos(), angles.sin()
        turned = torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
        return torch.cat([turned.to(states.dtype), states[..., 2 * half :]], -1)


def slopes_of(num_heads: int) -> list[float]:
    """Return the slopes of ALiBi: 2^(-8/n), 2^(-16/n), ...; for other counts those of 2n are interleaved."""
    power = 1 << (num_heads.bit_length() - 1)
    slopes = [2 ** (-8 * (head + 1) / power) for head in range(power)]
    between = [2 ** (-4 * (2 * head + 1) / power) for head in range(num_heads - power)]
    return slopes + between
