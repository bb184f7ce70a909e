"""Flash attention over the tokens of a batch without its padding, by PyTorch's own `varlen_attn`.

It computes attention to all keys of an example, or to those up to the query. What the mask hides is read in
each forward once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from custom_attention.errors import VariantError
from custom_attention.runtime.dispatch import ATTRIBUTE, Stack
from custom_attention.runtime.kernel import OWN_SCORE_TERMS, Attended, hides_later_keys
from custom_attention.variant import SCORE_HOOKS

WHERE = "kernel flash"
OTHERWISE = "kernel: flex, or leave kernel out"
TYPES = (torch.bfloat16, torch.float16)

# (query, key, value, starts of queries, starts of keys, most queries, most keys, causal, scale) -> output;
# states and output are (tokens, heads, head_dim)
OverTokens = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int, int, bool, float | None], Tensor]


def put_on(stack: Stack) -> None:
    """Let a stack compute its attention by flash attention.

    Raises:
        VariantError: a variant, or the model, has a bias or a mask, or sees the scores.
    """
    where = f"{WHERE}: {stack.site.name}"
    if stack.site.has_position_bias:
        raise VariantError(where, "the model adds a position bias to the scores", accepted=OTHERWISE)
    for hook in ("mask", "position_bias", "offset_bias", *SCORE_HOOKS):
        for variant in stack.having(hook):
            what = f"flash attention has no place for the hook {hook}"
            raise VariantError(where, what, type(variant).__name__, OTHERWISE)
    stack.kernel, stack.own_kernel = attend, False


@dataclass(frozen=True)
class TokenPlaces:
    """Where the tokens of a batch are.

    Attributes:
        places: their positions in the flattened (batch * length).
        starts: of each example among them, and their number at the end, in int32.
        most: tokens of the longest example.
    """

    places: Tensor
    starts: Tensor
    most: int

    @classmethod
    def of(cls, present: Tensor) -> TokenPlaces:
        """Return the tokens of a mask (batch, length), True at tokens."""
        counts = present.sum(1)
        starts = torch.nn.functional.pad(counts.cumsum(0), (1, 0)).to(torch.int32)
        return cls(present.flatten().nonzero()[:, 0], starts, int(counts.max()))

    def pack(self, states: Tensor) -> Tensor:
        """Return the states (batch, heads, length, size) of the tokens, (tokens, heads, size)."""
        return states.transpose(1, 2).flatten(0, 1)[self.places]


# What the mask of a forward means, by the mask, which all layers share, and the kind of the site.
_known: WeakIdKeyDictionary = WeakIdKeyDictionary()


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_bias: Tensor | None = None,
    is_causal: bool | None = None,
    **others: Any,
) -> Attended:
    """Compute one attention call, as sdpa does, with 0 for queries that are padding.

    Raises:
        VariantError: the call needs what flash attention does not have, or there is no such kernel.
    """
    return attend_to_tokens(
        _flash, module, query, key, value, mask, scaling, dropout, position_bias, is_causal, others
    )


def attend_to_tokens(
    over_tokens: OverTokens,
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float | None,
    dropout: float,
    position_bias: Tensor | None,
    is_causal: bool | None,
    others: dict[str, Any],
) -> Attended:
    """Compute `attend` by any function over tokens."""
    if dropout:
        fix = "set the dropout of attention to 0 in the model's config, or leave kernel out"
        raise VariantError(WHERE, "PyTorch's flash attention over tokens has no dropout", f"{dropout:g}", fix)
    if position_bias is not None or any(others.get(name) is not None for name in OWN_SCORE_TERMS):
        what = "the model has a bias, a cap or a sink of its own inside the softmax"
        raise VariantError(WHERE, what, accepted=OTHERWISE)
    if mask is None:
        causal = hides_later_keys(module, is_causal) and query.shape[2] > 1
        of_queries, of_keys = (
            TokenPlaces.of(torch.ones(states.shape[::2][:2], dtype=torch.bool, device=states.device))
            for states in (query, key)
        )
    else:
        causal, of_queries, of_keys = _meaning(mask, query, key, getattr(module, ATTRIBUTE).site.is_cross)
    if causal and query.shape[2] != key.shape[2]:
        what = "queries that continue a cache, several at a time, are not measured"
        raise VariantError(WHERE, what, accepted=OTHERWISE)
    packed = of_queries.pack(query), of_keys.pack(key), of_keys.pack(value)
    output = over_tokens(
        *packed, of_queries.starts, of_keys.starts, of_queries.most, of_keys.most, causal, scaling
    )
    batch, heads, length = query.shape[:3]
    whole = output.new_zeros(batch * length, heads, value.shape[3])
    return whole.index_put((of_queries.places,), output).unflatten(0, (batch, length)), None


def _flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    of_queries: Tensor,
    of_keys: Tensor,
    most_queries: int,
    most_keys: int,
    causal: bool,
    scale: float | None,
) -> Tensor:
    if query.device.type != "cuda" or query.dtype not in TYPES:
        came = f"{str(query.dtype).removeprefix('torch.')} on {query.device.type}"
        what = "flash attention runs on a GPU in 16 bits only"
        raise VariantError(WHERE, what, came, "a GPU and precision: bfloat16, or leave kernel out")
    from torch.nn.attention.varlen import varlen_attn  # every run would pay for its import

    window, grouped = (-1, 0 if causal else -1), query.shape[1] != key.shape[1]
    sizes = (of_queries, of_keys, most_queries, most_keys)
    output = varlen_attn(query, key, value, *sizes, scale=scale, window_size=window, enable_gqa=grouped)
    assert isinstance(output, Tensor), "it returns a pair only where one is asked for"
    return output


def _meaning(
    mask: Tensor, query: Tensor, key: Tensor, is_cross: bool
) -> tuple[bool, TokenPlaces, TokenPlaces]:
    """Return whether a mask hides later keys, and the tokens of queries and keys.

    Raises:
        VariantError: it hides more than padding and later keys.
    """
    known = _known.setdefault(mask, {})
    if is_cross not in known:
        known[is_cross] = _read(mask, query, key, is_cross)
    found: tuple[bool, TokenPlaces, TokenPlaces] = known[is_cross]
    return found


def _read(mask: Tensor, query: Tensor, key: Tensor, is_cross: bool) -> tuple[bool, TokenPlaces, TokenPlaces]:
    (batch, _, query_len), key_len = query.shape[:3], key.shape[2]
    refusal = VariantError(
        WHERE,
        "the mask hides more than padding and later keys, as a window or a prefix does",
        accepted=OTHERWISE,
    )
    if mask.dtype != torch.bool or mask.shape[1] != 1:
        raise refusal
    seen = mask[:, 0].expand(batch, query_len, key_len)
    keys = seen.any(1)
    has_own_keys = not is_cross and query_len == key_len
    queries = keys if has_own_keys else seen.any(2)
    whole = keys[:, None].expand_as(seen)
    for causal in (False, True) if has_own_keys else (False,):
        meant = whole.tril() if causal else whole
        if bool(((seen == meant) | ~queries[:, :, None]).all()):
            return causal and query_len > 1, TokenPlaces.of(queries), TokenPlaces.of(keys)
    raise refusal
