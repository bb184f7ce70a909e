"""One attention call while it runs: its states, and what hooks can ask about them.

Needs only torch and the files of this folder: an exported model carries a copy of it and of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from custom_attention.errors import VariantError
from custom_attention.runtime.blockwise import (
    FEWEST_SCORES,
    BlockPlace,
    attend_in_blocks,
    bias_by_offset,
    cut_to_block,
)
from custom_attention.runtime.forward import ForwardState, keep_with_cache
from custom_attention.runtime.paired_dropout import is_paired
from custom_attention.site import Site

# Arguments of models whose softmax has more terms than query @ key, bias and mask.
OWN_SCORE_TERMS = ("softcap", "s_aux", "sinks")

# Output (batch, query_len, heads, head_dim) and weights, None where the kernel returns none.
Attended = tuple[Tensor, Tensor | None]
Kernel = Callable[..., Attended]  # an attention function of transformers


class StackOfSite(Protocol):
    """What a call reads from the `Stack` of its site."""

    site: Site
    kernel: Kernel
    kernel_name: str
    own_kernel: bool  # False: another one has taken the place of `kernel_name`
    state: ForwardState
    positions: Mapping[str, int]  # of the arguments of the attention module

    def having(self, *hooks: str) -> Sequence[nn.Module]: ...


class Call:
    """One attention call while it runs: the states before any hook, and methods that hooks can use.

    Attributes:
        query, key, value: (batch, heads | key_heads, len, head_dim), as the model made them.
        states: query, key and value after their hooks, for `attend`.
        scale: the factor on query @ key after the `scale` hooks.
        dropout: the rate of the weights' dropout after the `dropout_rate` hooks; 0.0 in evaluation.
        mask: which keys are visible after the `mask` hooks, as the kernel gets it.
        position_bias: the model's additive term after the `position_bias` hooks so far, or None.
        by_offset: the sum of the `offset_bias` hooks, (heads, 2 * key_len - 1), or None; None too once it is
            a part of `position_bias`.
    """

    def __init__(
        self,
        stack: StackOfSite,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        scaling: float | None,
        dropout: float,
        kwargs: Mapping[str, Any],
        read: Sequence[int] | None = None,
    ) -> None:
        self.stack, self.module, self.mask, self.dropout = stack, module, mask, dropout
        self.read = read  # see `Stack.forward`
        self.query, self.key, self.value = query, key, value
        self.states = query, key, value
        self.arguments = stack.state.arguments
        self._model_mask = mask
        self._key_hidden: Tensor | None = None
        self._num_kept = 0  # calls of `along_keys` so far
        self.scaling = scaling  # as the kernel gets it: with None the kernel chooses
        self.scale: float = query.shape[-1] ** -0.5 if scaling is None else scaling
        self.kwargs = dict(kwargs)
        self.position_bias: Tensor | None = self.kwargs.pop("position_bias", None)
        self.by_offset: Tensor | None = None
        self.weights: Tensor | None = None  # of the last kernel call, where the kernel returns them
        self.drops_in_blocks = is_paired() and self.dropout > 0 and self._suits_blocks()
        self.heads = slice(None)  # the heads of this call among those of the site
        self._whole: tuple[Call, slice, slice] | None = None  # of a part: the whole call, examples, rows

    def part(self, place: BlockPlace, mask: Tensor | None) -> Call:
        """Return this call for one block of its scores: some examples, heads and query rows.

        Key heads are repeated in it, and `mask`, that of the whole call, is cut.
        """
        examples, heads, rows = place
        part = copy.copy(self)
        part._whole, part.heads = (self, examples, rows), heads
        part.query = self.query[place]
        repeats = self.query.shape[1] // self.key.shape[1]
        part.key = repeat_heads(self.key, repeats)[examples, heads]
        part.value = repeat_heads(self.value, repeats)[examples, heads]
        part.mask = part._model_mask = None if mask is None else cut_to_block(mask, place)
        bias = self.position_bias
        part.position_bias = None if bias is None else cut_to_block(bias, place)
        return part

    def _suits_blocks(self) -> bool:
        """Return whether `blockwise.py` computes this call well.

        It reads only what is equal in all arms, so that all arms drop the same weights.
        """
        query = self.query
        return (
            self.stack.kernel_name == "sdpa"
            and self.stack.own_kernel
            and query.device.type == "cpu"
            and query.shape[:3].numel() * self.key.shape[2] >= FEWEST_SCORES
            and not torch.compiler.is_compiling()
            and all(self.kwargs.get(name) is None for name in OWN_SCORE_TERMS)
        )

    @property
    def attends_in_blocks(self) -> bool:
        """Whether `attend_in_blocks` replaces the kernel.

        It does for dropout, and to learn a bias by offset, for which PyTorch's kernel would form all scores.
        """
        if self.by_offset is None:
            return self.drops_in_blocks
        if self.query.shape[2] != self.key.shape[2]:  # with a cache, query i is not at position i
            return False
        learns = self.by_offset.requires_grad and torch.is_grad_enabled() and self.module.training
        return self.drops_in_blocks or (learns and not self.dropout and self._suits_blocks())

    # ---- a bias by offset
    def every_offset(self) -> Tensor:
        """Return all values of key position minus query position, 1 - key_len .. key_len - 1.

        Raises:
            VariantError: as `offsets`.
        """
        self._require_one_order()
        key_len = self.key.shape[2]
        return torch.arange(1 - key_len, key_len, device=self.query.device)

    def add_by_offset(self, values: Tensor) -> None:
        """Add the result of an `offset_bias` hook.

        Raises:
            ValueError: its shape is not (heads, 2 * key_len - 1).
        """
        expected = (self.query.shape[1], 2 * self.key.shape[2] - 1)
        if values.shape != expected:
            came = tuple(values.shape)
            raise ValueError(f"{self.stack.site.name}: offset_bias gave {came}, not (heads, n) = {expected}.")
        self.by_offset = values if self.by_offset is None else self.by_offset + values

    def write_out_offsets(self) -> None:
        """Turn the bias by offset, if there is one, into a part of `position_bias`."""
        if self.by_offset is None:
            return
        whole = bias_by_offset(self.by_offset, self.own_positions(), self.key.shape[2])
        self.position_bias = whole if self.position_bias is None else self.position_bias + whole
        self.by_offset = None

    # ---- what hooks ask
    @property
    def is_causal(self) -> bool:
        """Whether there is no mask and the kernel itself hides later keys: sdpa's rule, with more than one
        query."""
        return self.mask is None and self._kernel_hides_later_keys

    @property
    def _kernel_hides_later_keys(self) -> bool:
        if self._model_mask is not None or self.stack.kernel_name != "sdpa" or self.query.shape[2] <= 1:
            return False
        given = self.kwargs.get("is_causal")
        return getattr(self.module, "is_causal", True) if given is None else given

    def full_mask(self, key_len: int) -> Tensor | None:
        """Return the mask, written out where the kernel itself hides later keys. True or 0 = visible."""
        if not self.is_causal:
            return self.mask
        ones = torch.ones(self.query.shape[2], key_len, dtype=torch.bool, device=self.query.device)
        return ones.tril()[None, None]

    def visible_counts(self) -> Tensor:
        """Return how many keys each query sees, at least 1, in float32.

        Its shape broadcasts to (batch, heads, query_len, 1).
        """
        query_len, key_len = self.query.shape[2], self.key.shape[2]
        mask, device = self.mask, self.query.device
        if mask is None and self.is_causal:
            return torch.arange(1, query_len + 1, device=device, dtype=torch.float32)[None, None, :, None]
        if mask is None:
            return torch.full((1, 1, 1, 1), float(key_len), device=device)
        return visible(mask).sum(-1, keepdim=True).clamp(min=1).to(torch.float32)

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
            raise VariantError(self.stack.site.name, what, accepted=_OTHERS)
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

    # ---- what a hook knows of the forward around it
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
            raise VariantError(self.stack.site.name, what, accepted=_OTHERS)
        return given

    def _one_each(self, states: Tensor, tokens: Tensor) -> Tensor:
        """Return the states of tokens; refused where there is not one for each."""
        if states.dim() != 3 or states.shape[:2] != tokens.shape[::2][:2]:
            came = f"{tuple(states.shape[:2])} for {tuple(tokens.shape[::2][:2])}"
            what = "its queries or keys have no hidden state each"
            raise VariantError(self.stack.site.name, what, came, _OTHERS)
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

    def _along_own_keys(self, states: Tensor) -> Tensor:
        cache = None if self.arguments is None else self.arguments.cache
        if self.arguments is None or cache is None:
            return states
        slot, kept = self._num_kept, self.arguments.kept
        self._num_kept += 1
        if slot == len(kept):
            kept.append(keep_with_cache(cache, self.stack.site, slot, states)[:, -self.num_own_keys :])
        return kept[slot]

    def publish(self, name: str, states: Tensor) -> None:
        """Let later sites of this forward read `states` by `earlier(name)`."""
        self.stack.state.publish(self.stack.site, self.arguments, name, states)

    def earlier(self, name: str) -> list[Tensor]:
        """Return what earlier sites of the same stack and kind published under this name, in order."""
        query = self.query if self._whole is None else self._whole[0].query
        return self.stack.state.earlier(self.stack.site, self.arguments, name, query)

    @property
    def progress(self) -> float:
        """Progress of training: 0.0 at the first step (and before it), 1.0 at the last and after it.

        It is saved with the model, and set by the loop (`custom_attention.set_progress`).
        """
        state = self.stack.state
        state.follows_progress = True
        return state.progress

    # ---- the mask
    @property
    def unpadded_queries(self) -> Tensor | None:
        """Which queries are no padding, (batch, query_len): those whose own key the model's mask shows.

        None where it shows no such key, as at cross-attention.
        """
        site, query_len = self.stack.site, self.query.shape[2]
        if self._model_mask is None or site.is_cross or not site.has_own_keys:
            return None
        seen = visible(self._model_mask)[:, 0].expand(self.query.shape[0], query_len, -1)
        own = self.own_positions()[..., None].expand(*seen.shape[:2], 1)
        return seen.gather(2, own)[..., 0]

    def visible_keys(self) -> Tensor:
        """Return which keys are visible, as booleans that broadcast to (batch, heads, query_len, key_len)."""
        mask = self.full_mask(self.key.shape[2])
        if mask is not None:
            return visible(mask)
        shape = (1, 1, self.query.shape[2], self.key.shape[2])
        return torch.ones(shape, dtype=torch.bool, device=self.query.device)

    def hide(self, seen: Tensor) -> None:
        """Hide the keys that a `mask` hook does not let a query see.

        Raises:
            ValueError: it gave no booleans.
        """
        if seen.dtype != torch.bool:
            raise ValueError(f"{self.stack.site.name}: a mask hook gave {seen.dtype}, not booleans.")
        seen = seen & self.visible_keys()
        if self.stack.kernel_name == "sdpa" and (self.mask is None or self.mask.dtype == torch.bool):
            self.mask = seen
            return
        added = self.query.new_zeros(()) if self.mask is None else self.mask
        self.mask = torch.where(seen, added, torch.finfo(added.dtype).min)

    # ---- the kernel
    def attend(self, query: Tensor, key: Tensor, value: Tensor, kernel: Kernel | None = None) -> Tensor:
        """Run a kernel, else the model's own, on these states: (batch, heads, query_len, value_dim)."""
        if self.attends_in_blocks:
            return self._attend_in_blocks(query, key, value)
        mask, extra, bias = self.mask, self.kwargs, self.position_bias
        if bias is not None:
            bias = bias.to(query.dtype)
            if self.stack.kernel_name == "eager" and self.stack.having("position_bias", "offset_bias"):
                mask = bias if mask is None else mask + bias  # an eager kernel need not know the argument
            else:
                extra = {**extra, "position_bias": bias}
        output, self.weights = (kernel or self.stack.kernel)(
            self.module, query, key, value, mask, scaling=self.scaling, dropout=self.dropout, **extra
        )
        return output.transpose(1, 2)

    def detached(self) -> Call:
        """Return this call with `states` and a position bias without gradient, and without dropout: for a
        transfer loss, from which the variant alone learns."""
        part = copy.copy(self)
        query, key, value = self.states
        part.states = query.detach(), key.detach(), value.detach()
        part.position_bias = None if self.position_bias is None else self.position_bias.detach()
        part.dropout = 0.0
        return part

    def attend_by(self, weights: Tensor) -> Tensor:
        """Return the mean of the values by positive weights of one's own: (batch, heads, query_len,
        head_dim).

        A position bias multiplies them by its exponential, as it does in the softmax; hidden keys count 0;
        the rest is divided by its sum, where that is not 0, and dropped at the model's rate.

        Args:
            weights: (batch, heads, query_len, key_len), in float32.
        """
        _, key, value = self.states
        if self.position_bias is not None:
            bias = self.position_bias.to(weights.dtype)
            weights = weights * torch.exp(bias - bias.amax(-1, keepdim=True))
        weights = torch.where(self.visible_keys(), weights, 0)
        sums = weights.sum(-1, keepdim=True)
        weights = weights / torch.where(sums > 0, sums, 1.0)
        weights = nn.functional.dropout(weights, self.dropout)  # a rate of 0 in evaluation
        values = repeat_heads(value, weights.shape[1] // key.shape[1])
        return (weights @ values.to(weights.dtype)).to(value.dtype)

    def _attend_in_blocks(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        repeats = query.shape[1] // key.shape[1]
        key, value = repeat_heads(key, repeats), repeat_heads(value, repeats)
        mask, bias = self.mask, self.position_bias
        if mask is not None and mask.dtype != torch.bool:
            bias, mask = mask if bias is None else bias + mask, None
        scale = query.shape[-1] ** -0.5 if self.scaling is None else self.scaling
        return attend_in_blocks(
            query, key, value, mask, bias, scale, self.dropout, self.by_offset, self.read, self.is_causal
        )


_OTHERS = "a variant that reads query, key or value"


def visible(mask: Tensor) -> Tensor:
    """Return the mask as booleans, True where a query sees a key."""
    return mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2


def repeat_heads(states: Tensor, repeats: int) -> Tensor:
    """Return (batch, heads * repeats, len, head_dim): each key head once for each of its query heads."""
    return states if repeats == 1 else states.repeat_interleave(repeats, dim=1)
