"""The seam: the function transformers calls once per attention layer, and the order of what happens inside
it.

Self-contained (torch and transformers only), because an exported model carries a copy of this file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

# The kernel a model had -> the name its config carries while variants are attached. Two names, because the
# mask function is chosen by name and each kernel must keep its own. Plain words: transformers parses
# "flash", "flex", "sdpa" and "owner/name" out of names.
NAMES = {"sdpa": "attnlab", "eager": "attnlab_eager"}
ATTRIBUTE = "attnlab"  # where a site keeps its `Stack`
OWN_SCORE_TERMS = (
    "softcap",
    "s_aux",
)  # arguments of models whose scores hold more than query @ key, bias and mask

_observer: Callable | None = None
_paired_seed: int | None = None


def attention(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **kwargs):
    """What transformers calls: states (batch, heads, len, head_dim) -> (batch, query_len, heads, head_dim),
    weights."""
    if _observer is not None:
        early = _observer(module, query, key, value, attention_mask, scaling, kwargs)
        if early is not None:
            return early, None
    stack = getattr(module, ATTRIBUTE, None)
    if stack is None:
        raise ValueError(
            f"{type(module).__name__}: this attention module was not reached when the variant was attached; "
            "give attach(..., example=batch) a batch that uses it."
        )
    if _paired_seed is None or not module.training:
        return stack(module, query, key, value, attention_mask, scaling, dropout, kwargs)
    # The draw is the same in every arm, because the stream is realigned at the exit of the site before.
    draw = int(torch.randint(2**62, ()))
    torch.manual_seed((_paired_seed ^ draw) % 2**63)
    result = stack(module, query, key, value, attention_mask, scaling, dropout, kwargs)
    torch.manual_seed((_paired_seed ^ draw) % 2**63 + 1)
    return result


for _kernel, _name in NAMES.items():
    AttentionInterface.register(_name, attention)
    AttentionMaskInterface.register(_name, ALL_MASK_ATTENTION_FUNCTIONS[_kernel])


@contextmanager
def observed(callback: Callable) -> Iterator[None]:
    """While active, `callback(module, query, key, value, mask, scaling, kwargs)` sees every attention call.

    A tensor that it returns is used as the output of the call, (batch, query_len, heads, head_dim).
    """
    global _observer
    before, _observer = _observer, callback
    try:
        yield
    finally:
        _observer = before


@contextmanager
def site_dropout(seed: int) -> Iterator[None]:
    """Give every arm the same dropout masks outside attention, however many numbers it draws inside.

    Seeds torch's default generators with `seed`; while active, in training, they are reseeded at the entry
    and again at the exit of each attention site. Run the backward pass inside it too where gradient
    checkpointing is on:
    checkpointing runs the sites again.
    """
    global _paired_seed
    torch.manual_seed(seed)
    before, _paired_seed = _paired_seed, seed
    try:
        yield
    finally:
        _paired_seed = before


class Stack(nn.ModuleList):
    """The variants of one site, in order, and the kernel that the model had there. `forward` fixes the
    order of hooks.

    Args:
        variants: instances of `Variant` for this site; none is stock attention through this file.
        kernel: the function the model called before, sdpa's or the eager one of its modeling file.
        kernel_name: "sdpa" or "eager".
        site: facts about the site, or None where no variant was asked for.
    """

    def __init__(self, variants: list[nn.Module], kernel: Callable, kernel_name: str, site) -> None:
        super().__init__(variants)
        self.kernel, self.kernel_name, self.site = kernel, kernel_name, site
        self.recipe: list = []  # (name, options) of each variant
        self.weight_edits: list = []  # what `attach` multiplied, so that `detach` can undo it
        self.explicit = any(variant.hooks & {"scores", "normalize"} for variant in variants)

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    def having(self, hook: str) -> list[nn.Module]:
        return [variant for variant in self if hook in variant.hooks]

    def forward(self, module, query, key, value, mask, scaling, dropout, kwargs):
        if not len(self):
            return self.kernel(module, query, key, value, mask, scaling=scaling, dropout=dropout, **kwargs)
        call = Call(self, module, query, key, value, mask, scaling, dropout, kwargs)
        for variant in self:
            if "query_gain" in variant.hooks:
                query = _times(query, variant.query_gain()[:, None])
            query = variant.query(query, call)
        for variant in self.having("key"):
            key = variant.key(key, call)
        for variant in self.having("scale"):
            call.scale = call.scaling = variant.scale(call.scale, call)
        for variant in self.having("position_bias"):
            call.position_bias = variant.position_bias(call.position_bias, call)
        if self.explicit:
            with torch.autocast(query.device.type, enabled=False):  # it would form the scores in 16 bits
                output, weights = self._attend_explicitly(call, query, key, value)
        else:
            output, weights = call.attend(query, key, value), call.weights
        for variant in self:
            if "output_gain" in variant.hooks:
                output = _times(output, variant.output_gain()[:, None])
            output = variant.output(output, call)
        return output.transpose(1, 2).contiguous(), weights

    def _attend_explicitly(self, call: Call, query, key, value):
        """The textbook order in float32 (or wider): scores, bias, mask last, weights, dropout, @ value."""
        for name in OWN_SCORE_TERMS:
            if call.kwargs.get(name) is not None:
                raise ValueError(
                    f"{type(call.module).__name__}: this model has its own `{name}` inside the softmax; "
                    "a variant that sees the scores cannot replace it."
                )
        bias = call.position_bias
        wide = torch.promote_types(query.dtype, torch.float32)
        repeats = query.shape[1] // key.shape[1]
        key, value = _repeat_heads(key, repeats), _repeat_heads(value, repeats)
        scores = torch.matmul(query.to(wide), key.to(wide).transpose(2, 3)) * call.scale
        for variant in self.having("scores"):
            scores = variant.scores(scores, call)
        if bias is not None:
            scores = scores + bias
        mask = call.full_mask(scores.shape[-1])
        lowest = torch.finfo(wide).min
        hidden = None
        if mask is not None:
            hidden = ~mask if mask.dtype == torch.bool else mask == -math.inf
            scores = scores if mask.dtype == torch.bool else scores + mask
            scores = scores.masked_fill(hidden, lowest).clamp(min=lowest)
        normalizers = self.having("normalize")
        weights = normalizers[0].normalize(scores, call) if normalizers else scores.softmax(-1)
        if hidden is not None and bias is None:
            weights = weights.masked_fill(
                hidden, 0.0
            )  # as sdpa: 0 where no key is visible (a mean under a bias)
        if call.dropout:
            weights = nn.functional.dropout(weights, call.dropout)
        return torch.matmul(weights.to(value.dtype), value), weights.to(query.dtype)


class Call:
    """One attention call while it runs: the states before any hook, and what can be asked about them.

    Attributes:
        query, key, value: (batch, heads | key_heads, len, head_dim), as the model made them.
        scale: the factor on query @ key after the `scale` hooks.
        position_bias: the model's additive term after the `position_bias` hooks so far, or None.
    """

    def __init__(self, stack: Stack, module, query, key, value, mask, scaling, dropout, kwargs) -> None:
        self.stack, self.module, self.mask, self.dropout = stack, module, mask, dropout
        self.query, self.key, self.value = query, key, value
        self.scaling = scaling  # as the kernel gets it: None lets the kernel choose
        self.scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        self.kwargs = dict(kwargs)
        self.position_bias = self.kwargs.pop("position_bias", None)
        self.weights = None  # of the last kernel call, where the kernel returns them

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
        return _visible(mask).sum(-1, keepdim=True).clamp(min=1).to(torch.float32)

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
            return _repeat_heads(self.value, repeats)
        positions = self.own_positions()
        shape = (self.value.shape[0], self.value.shape[1], self.query.shape[2], self.value.shape[3])
        return _repeat_heads(self.value.gather(2, positions[:, None, :, None].expand(shape)), repeats)

    def own_positions(self) -> torch.Tensor:
        """The index among the keys of each query's own position, (1 | batch, query_len)."""
        if self.stack.site.is_cross:
            raise ValueError(f"{self.stack.site.name}: a query of cross-attention is not among the keys.")
        query_len, key_len = self.query.shape[2], self.key.shape[2]
        from_the_start = torch.arange(query_len, device=self.query.device)[None]
        if self.is_causal:  # also the prefill of a static cache
            return from_the_start
        if query_len == key_len or self.mask is None or not self.stack.site.is_causal:
            return from_the_start + (key_len - query_len)
        visible = _visible(self.mask)[:, 0]  # a step with a cache: the own position is the last visible one
        return key_len - 1 - visible.flip(-1).to(torch.uint8).argmax(-1)

    def offsets(self) -> torch.Tensor:
        """Key position minus query position, (1 | batch, query_len, key_len)."""
        keys = torch.arange(self.key.shape[2], device=self.query.device)
        return keys[None, None] - self.own_positions()[..., None]

    def attend(self, query, key, value) -> torch.Tensor:
        """The model's own kernel on other states: (batch, heads, query_len, value_dim)."""
        mask, extra, bias = self.mask, self.kwargs, self.position_bias
        if bias is not None:
            bias = bias.to(query.dtype)
            if self.stack.kernel_name == "eager" and self.stack.having("position_bias"):
                mask = bias if mask is None else mask + bias  # an eager kernel need not know the argument
            else:
                extra = {**extra, "position_bias": bias}
        output, self.weights = self.stack.kernel(
            self.module, query, key, value, mask, scaling=self.scaling, dropout=self.dropout, **extra
        )
        return output.transpose(1, 2)


def _visible(mask: torch.Tensor) -> torch.Tensor:
    return mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2


def _times(states: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    """A product in the wider of both types, rounded once."""
    return (states * gain).to(states.dtype)


def _repeat_heads(states: torch.Tensor, repeats: int) -> torch.Tensor:
    return states if repeats == 1 else states.repeat_interleave(repeats, dim=1)
