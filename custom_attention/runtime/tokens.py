"""The tokens of an attention call: which key is a query's own, and the hidden states that they come from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicSlidingWindowLayer

from custom_attention.errors import VariantError
from custom_attention.runtime.blockwise import cut_to_block
from custom_attention.runtime.forward import Arguments, keep_with_cache
from custom_attention.runtime.kernel import StackOfSite, hides_later_keys

OTHERS = "a variant that reads query, key or value"


class TokensOfCall:
    """What a `Call` can say of its queries and keys as tokens of a text."""

    stack: StackOfSite
    module: nn.Module
    kwargs: dict[str, Any]
    query: Tensor
    key: Tensor
    value: Tensor
    arguments: Arguments | None
    _model_mask: Tensor | None
    _key_hidden: Tensor | None
    _num_kept: int
    _whole: tuple[TokensOfCall, slice, slice] | None

    @property
    def _kernel_hides_later_keys(self) -> bool:
        if self._model_mask is not None or self.stack.kernel_name != "sdpa" or self.query.shape[2] <= 1:
            return False
        return hides_later_keys(self.module, self.kwargs.get("is_causal"))

    def own_value(self) -> Tensor:
        """Return the value at each query's own position, heads repeated: (batch, heads, query_len, head_dim).

        Correct without a cache, with a growing cache and with a static cache, where the own position is the
        last visible one.

        Raises:
            ValueError: at cross-attention, where a query has no value of its own.
            VariantError: as `own_positions`.
        """
        if self.stack.site.is_cross:
            raise ValueError(f"{self.stack.site.name}: a query of cross-attention has no value of its own.")
        repeats = self.query.shape[1] // self.value.shape[1]
        if self.query.shape[2] == self.value.shape[2]:
            return repeat_heads(self.value, repeats)
        positions = self.own_positions()
        shape = (self.value.shape[0], self.value.shape[1], self.query.shape[2], self.value.shape[3])
        return repeat_heads(self.value.gather(2, positions[:, None, :, None].expand(shape)), repeats)

    def own_positions(self) -> Tensor:
        """Return each query's own position among the keys, (1 | batch, query_len).

        Raises:
            ValueError: at cross-attention, where queries are not among the keys.
            VariantError: the keys are not one for each query, as where they are pooled.
        """
        if self.stack.site.is_cross:
            raise ValueError(f"{self.stack.site.name}: a query of cross-attention is not among the keys.")
        if not self.stack.site.has_own_keys:
            what = "its keys are not one for each query, so a query has no key and value of its own"
            raise VariantError(self.stack.site.name, what, accepted=OTHERS)
        if self._whole is not None:
            whole, examples, rows = self._whole
            return cut_to_block(whole.own_positions(), (examples, rows))
        query_len, key_len = self.query.shape[2], self.num_own_keys
        from_the_start = torch.arange(query_len, device=self.query.device)[None]
        if self._kernel_hides_later_keys:  # also the prefill of a static cache
            return from_the_start
        if query_len == key_len or self._model_mask is None or not self.stack.site.is_causal:
            return from_the_start + (key_len - query_len)
        # A step with a cache: the own position is the last visible one.
        seen = visible(self._model_mask)[:, 0, :, :key_len]
        return key_len - 1 - seen.flip(-1).to(torch.uint8).argmax(-1)

    @property
    def num_own_keys(self) -> int:
        """The keys of the queries' own stack; at merged attention the others stand behind them."""
        return self.key.shape[2] - (self._more_keys.shape[1] if self._has_more_keys else 0)

    @property
    def _has_more_keys(self) -> bool:
        return bool(self.stack.site.more_keys_input)

    @property
    def _more_keys(self) -> Tensor:
        return self._input(self.stack.site.more_keys_input)

    def _require_one_order(self) -> None:
        site = self.stack.site
        if site.kind != "self":
            what = f"this is {site.kind}-attention, where not every key has a distance from a query"
            raise VariantError(site.name, what, accepted="where: {kind: self} selects self-attention")

    def offsets(self) -> Tensor:
        """Return key position minus query position, (1 | batch, query_len, key_len).

        Raises:
            VariantError: at cross-attention and at merged attention, where not every key has a distance.
        """
        self._require_one_order()
        keys = torch.arange(self.key.shape[2], device=self.query.device)
        return keys[None, None] - self.own_positions()[..., None]

    # ---- hidden states
    @property
    def hidden(self) -> Tensor:
        """The hidden states that the queries are made from, (batch, query_len, site.hidden_size).

        Raises:
            VariantError: the states that the projections of this site read were not found.
        """
        if self._whole is not None:
            whole, examples, rows = self._whole
            return whole.hidden[examples, rows]
        return self._one_each(self._input(self.stack.site.query_input), self.query)

    @property
    def key_hidden(self) -> Tensor:
        """The hidden states that keys and values are made from, (batch, key_len, site.key_hidden_size).

        With a cache, those of earlier steps are kept with it, but at cross-attention.

        Raises:
            VariantError: as `hidden`.
        """
        if self._whole is not None:
            whole, examples, _ = self._whole
            return whole.key_hidden[examples]
        if self._key_hidden is None:
            of_call = self._input(self.stack.site.key_input)
            of_keys = of_call if self.stack.site.is_cross else self._along_own_keys(of_call)
            if self._has_more_keys:
                of_keys = torch.cat([of_keys, self._more_keys], 1)
            self._key_hidden = self._one_each(of_keys, self.key)
        return self._key_hidden

    def _input(self, name: str) -> Tensor:
        position = self.stack.positions.get(name)
        given = None if self.arguments is None else self.arguments.get(name, position)
        if not isinstance(given, Tensor):
            what = "the hidden states that its projections read were not found, so no variant can read them"
            raise VariantError(self.stack.site.name, what, accepted=OTHERS)
        return given

    def _one_each(self, states: Tensor, tokens: Tensor) -> Tensor:
        """Return the states of tokens; refused where there is not one for each."""
        if states.dim() != 3 or states.shape[:2] != tokens.shape[::2][:2]:
            came = f"{tuple(states.shape[:2])} for {tuple(tokens.shape[::2][:2])}"
            what = "its queries or keys have no hidden state each"
            raise VariantError(self.stack.site.name, what, came, OTHERS)
        return states

    def along_keys(self, states: Tensor) -> Tensor:
        """Return states of every key, given those of the tokens of this call: (batch, query_len, ...) ->
        (batch, key_len, ...).

        With a cache, states of earlier steps are kept with it. At self-attention, before the kernel.
        """
        if self._whole is not None or self.stack.site.kind != "self":
            what = "along_keys is for self-attention, in a hook that gets no block of scores"
            raise VariantError(self.stack.site.name, what)
        return self._along_own_keys(states)

    def values_of_text(self) -> Tensor:
        """Return the values of this site as later sites need them, (batch, key_heads, len, head_dim).

        They are `value`, and before it those of earlier tokens that a window of the cache has let go.
        """
        cache = None if self.arguments is None else self.arguments.cache
        layers = [] if cache is None else cache.layers
        has_window = any(isinstance(layer, DynamicSlidingWindowLayer) for layer in layers)
        if self.stack.site.kind != "self" or not has_window:
            return self.value
        of_call = self.value[:, :, -self.query.shape[2] :].transpose(1, 2)
        return self._along_text(of_call).transpose(1, 2)

    def _along_own_keys(self, states: Tensor) -> Tensor:
        along = self._along_text(states)
        return along if along is states else along[:, -self.num_own_keys :]

    def _along_text(self, states: Tensor) -> Tensor:
        """Return the states of this call's tokens behind those that the cache keeps of all earlier ones."""
        cache = None if self.arguments is None else self.arguments.cache
        if self.arguments is None or cache is None:
            return states
        slot, kept = self._num_kept, self.arguments.kept
        self._num_kept += 1
        if slot == len(kept):
            kept.append(keep_with_cache(cache, self.stack.site, slot, states))
        return kept[slot]


def visible(mask: Tensor) -> Tensor:
    """Return the mask as booleans, True where a query sees a key."""
    return mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2


def repeat_heads(states: Tensor, repeats: int) -> Tensor:
    """Return (batch, heads * repeats, len, head_dim): each key head once for each of its query heads."""
    return states if repeats == 1 else states.repeat_interleave(repeats, dim=1)
