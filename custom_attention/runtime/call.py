"""One attention call while it runs: its states, and what hooks can ask about them.

Needs only torch and the files of this folder: an exported model carries a copy of it and of them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from custom_attention.runtime.blockwise import (
    FEWEST_SCORES,
    BlockPlace,
    attend_in_blocks,
    bias_by_offset,
    cut_to_block,
)
from custom_attention.runtime.kernel import OWN_SCORE_TERMS, Kernel, StackOfSite
from custom_attention.runtime.paired_dropout import is_paired
from custom_attention.runtime.tokens import TokensOfCall, repeat_heads, visible


class Call(TokensOfCall):
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

    # ---- what a hook knows of the forward around it
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
