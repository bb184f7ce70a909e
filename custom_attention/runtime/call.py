"""One attention call while it runs: its states, and what hooks ask about them.

Torch only: an exported model carries a copy of this file.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from custom_attention.runtime.blockwise import FEWEST_SCORES, attend_in_blocks, bias_by_offset, cut_to_block
from custom_attention.runtime.paired_dropout import is_paired

# Arguments of models whose scores hold more than query @ key, bias and mask.
OWN_SCORE_TERMS = ("softcap", "s_aux", "sinks")


class Call:
    """One attention call while it runs: the states before any hook, and what can be asked about them.

    Attributes:
        query, key, value: (batch, heads | key_heads, len, head_dim), as the model made them.
        scale: the factor on query @ key after the `scale` hooks.
        position_bias: the model's additive term after the `position_bias` hooks so far, or None.
    """

    def __init__(
        self, stack: nn.Module, module, query, key, value, mask, scaling, dropout, kwargs, read=None
    ) -> None:
        self.stack, self.module, self.mask, self.dropout = stack, module, mask, dropout
        self.read = read  # see `Stack.forward`
        self.query, self.key, self.value = query, key, value
        self.scaling = scaling  # as the kernel gets it: None lets the kernel choose
        self.scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        self.kwargs = dict(kwargs)
        self.position_bias = self.kwargs.pop("position_bias", None)
        self.by_offset = None  # a bias besides, (heads, every offset), as long as it is not written out
        self.weights = None  # of the last kernel call, where the kernel returns them
        self.drops_in_blocks = is_paired() and self.dropout > 0 and self._suits_blocks()
        self.heads = slice(None)  # the heads that this call is about
        self._whole: tuple[Call, slice, slice] | None = None  # of a part: the call it was cut from, and where

    def part(self, place: tuple[slice, slice, slice], mask: torch.Tensor | None) -> Call:
        """This call as a block of its scores sees it: some examples, heads (key heads repeated) and query
        rows, under the part of `mask` that is theirs."""
        examples, heads, rows = place
        part = copy.copy(self)
        part._whole, part.heads = (self, examples, rows), heads
        part.query = self.query[place]
        repeats = self.query.shape[1] // self.key.shape[1]
        part.key = repeat_heads(self.key, repeats)[examples, heads]
        part.value = repeat_heads(self.value, repeats)[examples, heads]
        part.mask, part.position_bias = cut_to_block(mask, place), cut_to_block(self.position_bias, place)
        return part

    def _suits_blocks(self) -> bool:
        """Whether `blockwise.py` can compute it well; asked of the whole call, so that all arms agree."""
        query = self.query
        return (
            self.stack.kernel_name == "sdpa"
            and query.device.type == "cpu"
            and query.shape[:3].numel() * self.key.shape[2] >= FEWEST_SCORES
            and not torch.compiler.is_compiling()
            and all(self.kwargs.get(name) is None for name in OWN_SCORE_TERMS)
        )

    @property
    def attends_in_blocks(self) -> bool:
        """For dropout; or as a bias by offset is learned, for which PyTorch writes out all scores."""
        if self.by_offset is None:
            return self.drops_in_blocks
        if self.query.shape[2] != self.key.shape[2]:  # the queries stand elsewhere
            return False
        learns = self.by_offset.requires_grad and torch.is_grad_enabled() and self.module.training
        return self.drops_in_blocks or (learns and not self.dropout and self._suits_blocks())

    # ---- a bias by offset
    def every_offset(self) -> torch.Tensor:
        """All that key position minus query position can be, 1 - key_len .. key_len - 1."""
        key_len = self.key.shape[2]
        return torch.arange(1 - key_len, key_len, device=self.query.device)

    def add_by_offset(self, values: torch.Tensor) -> None:
        expected = (self.query.shape[1], 2 * self.key.shape[2] - 1)
        if values.shape != expected:
            came = tuple(values.shape)
            raise ValueError(f"{self.stack.site.name}: offset_bias gave {came}, not (heads, n) = {expected}.")
        self.by_offset = values if self.by_offset is None else self.by_offset + values

    def write_out_offsets(self) -> None:
        """Make what depends on the offset a part of `position_bias`."""
        whole = bias_by_offset(self.by_offset, self.own_positions(), self.key.shape[2])
        self.position_bias = whole if self.position_bias is None else self.position_bias + whole
        self.by_offset = None

    @property
    def is_causal(self) -> bool:
        """No mask came and the kernel itself hides later keys (sdpa's rule, more than one query)."""
        if self.mask is not None or self.stack.kernel_name != "sdpa" or self.query.shape[2] <= 1:
            return False
        given = self.kwargs.get("is_causal")
        return getattr(self.module, "is_causal", True) if given is None else given

    def full_mask(self, key_len: int) -> torch.Tensor | None:
        """The mask, with causality written out where the kernel was to supply it. True or 0 = visible."""
        if not self.is_causal:
            return self.mask
        ones = torch.ones(self.query.shape[2], key_len, dtype=torch.bool, device=self.query.device)
        return ones.tril()[None, None]

    def visible_counts(self) -> torch.Tensor:
        """How many keys each query sees, at least 1; float32, broadcasts to (batch, heads, query_len, 1)."""
        query_len, key_len = self.query.shape[2], self.key.shape[2]
        mask, device = self.mask, self.query.device
        if mask is None and self.is_causal:
            return torch.arange(1, query_len + 1, device=device, dtype=torch.float32)[None, None, :, None]
        if mask is None:
            return torch.full((1, 1, 1, 1), float(key_len), device=device)
        return visible(mask).sum(-1, keepdim=True).clamp(min=1).to(torch.float32)

    def own_value(self) -> torch.Tensor:
        """The value at each query's own position, heads repeated: (batch, heads, query_len, head_dim).

        Correct with no cache, growing caches and static caches, where the own position is the last visible
        one.
        Raises ValueError at cross-attention, where a query has no own value.
        """
        if self.stack.site.is_cross:
            raise ValueError(f"{self.stack.site.name}: a query of cross-attention has no value of its own.")
        repeats = self.query.shape[1] // self.value.shape[1]
        if self.query.shape[2] == self.value.shape[2]:
            return repeat_heads(self.value, repeats)
        positions = self.own_positions()
        shape = (self.value.shape[0], self.value.shape[1], self.query.shape[2], self.value.shape[3])
        return repeat_heads(self.value.gather(2, positions[:, None, :, None].expand(shape)), repeats)

    def own_positions(self) -> torch.Tensor:
        """The index among the keys of each query's own position, (1 | batch, query_len)."""
        if self.stack.site.is_cross:
            raise ValueError(f"{self.stack.site.name}: a query of cross-attention is not among the keys.")
        if self._whole is not None:
            whole, examples, rows = self._whole
            return cut_to_block(whole.own_positions(), (examples, rows))
        query_len, key_len = self.query.shape[2], self.key.shape[2]
        from_the_start = torch.arange(query_len, device=self.query.device)[None]
        if self.is_causal:  # also the prefill of a static cache
            return from_the_start
        if query_len == key_len or self.mask is None or not self.stack.site.is_causal:
            return from_the_start + (key_len - query_len)
        seen = visible(self.mask)[:, 0]  # a step with a cache: the own position is the last visible one
        return key_len - 1 - seen.flip(-1).to(torch.uint8).argmax(-1)

    def offsets(self) -> torch.Tensor:
        """Key position minus query position, (1 | batch, query_len, key_len)."""
        keys = torch.arange(self.key.shape[2], device=self.query.device)
        return keys[None, None] - self.own_positions()[..., None]

    def attend(self, query, key, value) -> torch.Tensor:
        """The model's own kernel on other states: (batch, heads, query_len, value_dim)."""
        if self.attends_in_blocks:
            return self._attend_in_blocks(query, key, value)
        mask, extra, bias = self.mask, self.kwargs, self.position_bias
        if bias is not None:
            bias = bias.to(query.dtype)
            if self.stack.kernel_name == "eager" and self.stack.having("position_bias", "offset_bias"):
                mask = bias if mask is None else mask + bias  # an eager kernel need not know the argument
            else:
                extra = {**extra, "position_bias": bias}
        output, self.weights = self.stack.kernel(
            self.module, query, key, value, mask, scaling=self.scaling, dropout=self.dropout, **extra
        )
        return output.transpose(1, 2)

    def _attend_in_blocks(self, query, key, value) -> torch.Tensor:
        repeats = query.shape[1] // key.shape[1]
        key, value = repeat_heads(key, repeats), repeat_heads(value, repeats)
        mask, bias = self.full_mask(key.shape[2]), self.position_bias
        if mask is not None and mask.dtype != torch.bool:
            mask, bias = None, mask if bias is None else bias + mask
        scale = query.shape[-1] ** -0.5 if self.scaling is None else self.scaling
        return attend_in_blocks(query, key, value, mask, bias, scale, self.dropout, self.by_offset, self.read)


def visible(mask: torch.Tensor) -> torch.Tensor:
    """The mask as booleans, True where a query sees a key."""
    return mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2


def repeat_heads(states: torch.Tensor, repeats: int) -> torch.Tensor:
    return states if repeats == 1 else states.repeat_interleave(repeats, dim=1)
