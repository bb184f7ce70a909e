"""The contract of a variant: one idea about attention, one class, one instance per attention site."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from custom_attention.errors import VariantError

__all__ = ["KERNEL_HOOKS", "SCORE_HOOKS", "Site", "Variant", "VariantError"]

KERNEL_HOOKS = (
    "scale",
    "query_gain",
    "output_gain",
    "query",
    "key",
    "position_bias",
    "offset_bias",
    "output",
)
SCORE_HOOKS = ("scores", "normalize")  # these need the scores, so they take the explicit path
FOLDABLE_HOOKS = ("scale", "query_gain", "output_gain")  # constant factors: stock weights can hold them


@dataclass(frozen=True)
class Site:
    """One attention module of a model, as the probing forward saw it.

    Attributes:
        name: path of the module, such as "bert.encoder.layer.0.attention.self".
        index: 0 .. num_sites - 1 in the order of execution.
        num_sites: attention modules of the model, whether or not a variant sits there.
        num_heads, num_key_heads: query heads, and key/value heads (fewer in grouped-query attention).
        head_dim: length of one query vector of one head.
        scale: the factor the model puts on query @ key, 1.0 for T5.
        is_cross: keys come from other states than the queries.
        is_causal: a query sees no later key.
        stack: "encoder" or "decoder".
        layer: index of the layer within its stack, from 0.
    """

    name: str
    index: int
    num_sites: int
    num_heads: int
    num_key_heads: int
    head_dim: int
    scale: float
    is_cross: bool
    is_causal: bool
    stack: str = "encoder"
    layer: int = 0


class Variant(nn.Module):
    """Base class: overriding nothing is stock attention. Overridden hooks alone are called.

    Write one class in one file of `variants/`, with every new `nn.Parameter` zero where the function is stock
    (log-temperature 0, 2*sigmoid(0), tanh(0)): the swap is then exact and weight decay pulls toward stock.

    Hooks run in this order at each attention call; a list of variants runs in list order within each hook:
        query_gain, query, key, scale, scores, position_bias, offset_bias, mask, normalize, dropout, @ value,
        output_gain, output.
    `call` is the running forward (`call.Call`): `call.query`, `call.key`, `call.value` as the model
    made them, `call.visible_counts()`, `call.own_value()`, `call.attend(query, key, value)`. Never store it.
    """

    # Whether attention at the initial parameters is stock attention: True, False, or by one option,
    # such as {"mode": {"naive": False, "compensated": True}}. A literal, so that it is read without
    # importing.
    starts_as_stock: ClassVar[bool | dict] = True
    # Whether `scores` or `normalize` lets heads see each other. Where none does, long inputs are computed
    # some heads at a time.
    mixes_heads: ClassVar[bool] = False

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site = site
        mine = type(self)
        overridden = [h for h in KERNEL_HOOKS + SCORE_HOOKS if getattr(mine, h) is not getattr(Variant, h)]
        self.hooks = frozenset(overridden)

    # -- hooks on the model's own kernel ----------------------------------------------------------------

    def scale(self, scale: float, call) -> float:
        """The factor on query @ key, given the factor so far."""
        return scale

    def query_gain(self) -> torch.Tensor:
        """A constant multiplier of the queries, shape (heads, 1) or (heads, head_dim). It folds into W_q."""
        raise NotImplementedError

    def output_gain(self) -> torch.Tensor:
        """A constant multiplier of the outputs, shape (heads, 1) or (heads, head_dim). It folds into W_o."""
        raise NotImplementedError

    def query(self, query: torch.Tensor, call) -> torch.Tensor:
        """The queries, (batch, heads, query_len, head_dim)."""
        return query

    def key(self, key: torch.Tensor, call) -> torch.Tensor:
        """The keys, (batch, key_heads, key_len, head_dim). Redone on the whole cache in every decoding
        step."""
        return key

    def position_bias(self, bias: torch.Tensor | None, call) -> torch.Tensor | None:
        """An additive term, (1 | batch, heads, query_len, key_len), given the model's own or None."""
        return bias

    def offset_bias(self, offsets: torch.Tensor, call) -> torch.Tensor:
        """An additive term that depends on the offset alone, key position minus query position.

        Given all offsets of a call, whole numbers (n,), returns (heads, n). In training on a CPU the whole
        (heads, query_len, key_len) is never formed.
        """
        raise NotImplementedError

    def output(self, output: torch.Tensor, call) -> torch.Tensor:
        """What the kernel returned, (batch, heads, query_len, head_dim)."""
        return output

    # -- hooks on the explicit path ---------------------------------------------------------------------

    def scores(self, scores: torch.Tensor, call) -> torch.Tensor:
        """query @ key * scale in float32, (batch, heads, query_len, key_len), before bias and mask.

        Of long inputs, a block at a time: some examples, heads (unless `mixes_heads`) and query rows, never
        a part of a row. So one row of scores must not depend on another; `call`, and parameters whose first
        axis is the heads, are cut alike.
        """
        return scores

    def normalize(self, scores: torch.Tensor, call) -> torch.Tensor:
        """Weights from scores that carry bias and mask (hidden keys hold the lowest float). One per site.

        A block at a time, as `scores`.
        """
        raise NotImplementedError

    # -- what other parts ask ---------------------------------------------------------------------------

    def weight_factor(self) -> float:
        """What `attach` multiplies W_q by (and `detach` divides by), so that a new scale keeps the
        function."""
        return 1.0

    def on_heads(self, heads: slice) -> Variant:
        """This variant for some of the heads: the same parameters, cut where their first axis is the
        heads."""
        if heads == slice(None):
            return self
        part = copy.copy(self)
        led = {
            name: p.dim() > 0 and p.shape[0] == self.site.num_heads for name, p in self._parameters.items()
        }
        part._parameters = {name: p[heads] if led[name] else p for name, p in self._parameters.items()}
        return part

    def shared(self) -> tuple[str, ...]:
        """Names of parameters that all sites hold in common."""
        return ()

    @property
    def neutral_at_start(self) -> bool:
        """`starts_as_stock`, resolved for the options of this instance."""
        declared = type(self).starts_as_stock
        if isinstance(declared, bool):
            return declared
        (option, by_value), *_ = declared.items()
        return by_value[getattr(self, option)]

    @property
    def foldable(self) -> bool:
        """Only constant factors are overridden, so stock weights can hold the same function."""
        return self.hooks <= set(FOLDABLE_HOOKS)
