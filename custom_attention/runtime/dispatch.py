"""The seam: the function transformers calls once per attention layer, and the order of what happens inside
it.

Self-contained (torch, transformers, `call.py`, `blockwise.py` and `paired_dropout.py` only), because an
exported model carries a copy of this file.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from custom_attention.runtime.blockwise import drop_elements, score_cuts
from custom_attention.runtime.call import OWN_SCORE_TERMS, Call, repeat_heads
from custom_attention.runtime.paired_dropout import is_paired, realigned

# The kernel a model had -> the name its config carries while variants are attached. Two names, because the
# mask function is chosen by name and each kernel must keep its own. Plain words: transformers parses
# "flash", "flex", "sdpa" and "owner/name" out of names.
NAMES = {"sdpa": "attnlab", "eager": "attnlab_eager"}
ATTRIBUTE = "attnlab"  # where a site keeps its `Stack`
SCORE_BLOCK = 2**26  # scores that the explicit path forms at a time: 256 MiB in float32

_observer: Callable | None = None


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
            f"{type(module).__name__}: nothing is attached to this attention module. Either the probing "
            "forward did not reach it, then give attach(..., example=batch) a batch that uses it; or the "
            "model comes from a checkpoint of an attached one, then attach before its weights are loaded."
        )
    if not (is_paired() and module.training):
        return stack(module, query, key, value, attention_mask, scaling, dropout, kwargs)
    with realigned():
        return stack(module, query, key, value, attention_mask, scaling, dropout, kwargs)


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

    def having(self, *hooks: str) -> list[nn.Module]:
        return [variant for variant in self if not variant.hooks.isdisjoint(hooks)]

    def forward(self, module, query, key, value, mask, scaling, dropout, kwargs, read=None):
        """What the site says, (batch, query_len, heads, head_dim), and weights.

        Args:
            read: of each example, how many queries have a reader, the first ones, where that is known: what
                is said of the others may be anything finite.
        """
        call = Call(self, module, query, key, value, mask, scaling, dropout, kwargs, read)
        if not len(self) and not call.drops_in_blocks:
            return self.kernel(module, query, key, value, mask, scaling=scaling, dropout=dropout, **kwargs)
        query, key = self.enter(call)
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

    def enter(self, call: Call) -> tuple[torch.Tensor, torch.Tensor]:
        """The hooks before the kernel: queries and keys as it gets them; `call` gets its scale and bias."""
        query, key = call.query, call.key
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
        for variant in self.having("offset_bias"):
            call.add_by_offset(variant.offset_bias(call.every_offset(), call))
        if call.by_offset is not None and (self.explicit or not call.attends_in_blocks):
            call.write_out_offsets()
        return query, key

    def _attend_explicitly(self, call: Call, query, key, value):
        """Attention written out, at most `SCORE_BLOCK` scores at a time.

        More than that is cut over examples and heads, which keeps the order in which a CPU draws dropout, and
        over query rows where that is not enough. In training, each block is computed again in the backward
        pass, or all of them would be kept for it. Weights are returned where one block holds them all.
        """
        for name in OWN_SCORE_TERMS:
            if call.kwargs.get(name) is not None:
                raise ValueError(
                    f"{type(call.module).__name__}: this model has its own `{name}` inside the softmax; "
                    "a variant that sees the scores cannot replace it."
                )
        repeats = query.shape[1] // key.shape[1]
        key, value = repeat_heads(key, repeats), repeat_heads(value, repeats)
        mask = call.full_mask(key.shape[2])
        examples, heads, rows = self.cuts(query, key, SCORE_BLOCK)
        if len(rows) > 1:
            self._say_that_rows_are_cut(query, key)

        def block(*place: slice):
            part = call.part(place, mask)
            return self._block(part, query[place], key[place[:2]], value[place[:2]])

        if len(examples) == len(heads) == len(rows) == 1:
            return block(slice(None), slice(None), slice(None))

        def output(*place: slice) -> torch.Tensor:
            if torch.is_grad_enabled():
                return checkpoint(lambda: block(*place)[0], use_reentrant=False)
            return block(*place)[0]

        return torch.cat(
            [torch.cat([torch.cat([output(e, h, r) for r in rows], 2) for h in heads], 1) for e in examples]
        ), None

    def cuts(self, query, key, most: int) -> tuple[list[slice], list[slice], list[slice]]:
        """Slices of examples, heads and query rows whose blocks hold at most `most` scores, or one row."""
        together = any(variant.mixes_heads for variant in self)
        return score_cuts(query.shape[:3], key.shape[2], together, most)

    def _block(self, call: Call, query, key, value):
        """`weigh`, dropout, @ value."""
        _, weights = self.weigh(call, query, key)
        if call.dropout:
            dropped = drop_elements if call.drops_in_blocks else nn.functional.dropout
            weights = dropped(weights, call.dropout)
        return torch.matmul(weights.to(value.dtype), value), weights.to(query.dtype)

    def weigh(self, call: Call, query, key) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores (bias and mask added) and weights, in the textbook order in float32 (or wider), mask last.

        Key heads are repeated already, and the mask is written out (`Call.part`).
        """
        variants = [variant.on_heads(call.heads) for variant in self]
        bias, mask = call.position_bias, call.mask
        wide = torch.promote_types(query.dtype, torch.float32)
        scores = torch.matmul(query.to(wide), key.to(wide).transpose(2, 3)) * call.scale
        shape = scores.shape
        for variant in variants:
            if "scores" in variant.hooks:
                scores = variant.scores(scores, call)
        if bias is not None:
            scores = scores + bias
        lowest = torch.finfo(wide).min
        hidden = None
        if mask is not None:
            hidden = ~mask if mask.dtype == torch.bool else mask == -math.inf
            scores = scores if mask.dtype == torch.bool else scores + mask
            scores = scores.masked_fill(hidden, lowest).clamp(min=lowest)
        normalizers = [variant for variant in variants if "normalize" in variant.hooks]
        weights = normalizers[0].normalize(scores, call) if normalizers else scores.softmax(-1)
        if weights.shape != shape:
            raise ValueError(
                f"{self.site.name}: a hook changed the shape of the scores from {tuple(shape)} to "
                f"{tuple(weights.shape)}."
            )
        if hidden is not None and bias is None:
            weights = weights.masked_fill(
                hidden, 0.0
            )  # as sdpa: 0 where no key is visible (a mean under a bias)
        return scores, weights

    def _say_that_rows_are_cut(self, query, key) -> None:
        together = any(variant.mixes_heads for variant in self)
        what = "all heads, which mix," if together else "one head"
        draws = "; dropout draws other numbers than uncut" if together else ""
        warnings.warn(
            f"{self.site.name}: {query.shape[2]} x {key.shape[2]} scores of {what} exceed the block of "
            f"{SCORE_BLOCK} scores, so attention is computed some query rows at a time{draws}.",
            stacklevel=2,
        )


def _times(states: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    """A product in the wider of both types, rounded once."""
    return (states * gain).to(states.dtype)
