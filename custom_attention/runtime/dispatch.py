"""The function that transformers calls once per attention layer, and the order of the hooks inside it.

Needs only torch, transformers and the files that an exported model carries a copy of, as of this one.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from custom_attention.runtime.blockwise import BlockPlace, Cuts, drop_elements, score_cuts
from custom_attention.runtime.call import Call
from custom_attention.runtime.forward import Arguments, ForwardState
from custom_attention.runtime.kernel import OWN_SCORE_TERMS, Attended, Kernel
from custom_attention.runtime.paired_dropout import is_paired, realigned
from custom_attention.runtime.tokens import repeat_heads
from custom_attention.site import Site
from custom_attention.variant import SCORE_HOOKS, Variant

# The kernel of a model -> the name in its config while variants are attached. Two names, because
# transformers chooses the mask function by name and each kernel needs its own. No "flash", "flex", "sdpa"
# or "/" in them: transformers gives these a meaning.
NAMES = {"sdpa": "attnlab", "eager": "attnlab_eager"}
ATTRIBUTE = "attnlab"  # where a site keeps its `Stack`
SCORE_BLOCK = 2**26  # scores that the explicit path forms at a time: 256 MiB in float32

Recipe = list[tuple[str, dict[str, Any]]]  # name and options of each variant, in order
# (module, query, key, value, mask, scaling, other arguments) -> output of the call, or None
Observer = Callable[
    [nn.Module, Tensor, Tensor, Tensor, Tensor | None, float | None, Mapping[str, Any]], Tensor | None
]

_observer: Observer | None = None
_bypassed = False  # whether models run on their own kernels on purpose


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> Attended:
    """Compute one attention call of a model; transformers calls this function.

    Args:
        module: the attention module of the model.
        query, key, value: (batch, heads | key_heads, len, head_dim).

    Returns:
        Output (batch, query_len, heads, head_dim) and weights, or None for the weights.

    Raises:
        ValueError: nothing is attached to `module`.
    """
    if _observer is not None:
        early = _observer(module, query, key, value, attention_mask, scaling, kwargs)
        if early is not None:
            return early, None
    # Not checked by class: every exported model has a `Stack` class of its own, and the `attention` of the
    # module that was loaded last serves all of them.
    stack: Stack | None = getattr(module, ATTRIBUTE, None)
    if stack is None:
        raise ValueError(
            f"{type(module).__name__}: nothing is attached to this attention module. If the forward inside "
            "attach did not reach it, give attach(..., example=batch) a batch that uses it; if the model "
            "comes from a checkpoint of an attached one, attach before its weights are loaded."
        )
    if not (is_paired() and module.training):
        return stack(module, query, key, value, attention_mask, scaling, dropout, kwargs)
    with realigned():
        return stack(module, query, key, value, attention_mask, scaling, dropout, kwargs)


for _kernel, _name in NAMES.items():
    AttentionInterface.register(_name, attention)
    AttentionMaskInterface.register(_name, ALL_MASK_ATTENTION_FUNCTIONS[_kernel])


@contextmanager
def observed(callback: Observer) -> Iterator[None]:
    """Call `callback(module, query, key, value, mask, scaling, kwargs)` first in every attention call.

    A tensor that it returns is used as the output of the call, (batch, query_len, heads, head_dim).
    """
    global _observer
    before, _observer = _observer, callback
    try:
        yield
    finally:
        _observer = before


def put(model: nn.Module, module: nn.Module, stack: Stack) -> None:
    """Attach a stack to an attention module of `model`, which from then on refuses to run without it."""
    setattr(module, ATTRIBUTE, stack)
    module.register_forward_pre_hook(arrive, with_kwargs=True)
    if not hasattr(module, "config"):
        stack.config = _config_around(model, stack.site.name)
    names = inspect.signature(module.forward).parameters
    stack.positions = {name: position for position, name in enumerate(names)}
    for layer, after in _after_layers(model, stack):
        layer.register_forward_hook(after)


def _config_around(model: nn.Module, name: str) -> Any:
    """Return the config of the nearest module around the module `name` that has one, or None."""
    path = name.split(".")
    around = (model.get_submodule(".".join(path[:n])) for n in range(len(path) - 1, -1, -1))
    return next((module.config for module in around if hasattr(module, "config")), None)


def _after_layers(model: nn.Module, stack: Stack) -> list[tuple[nn.Module, Callable[..., Tensor | None]]]:
    """Return the layers of `model` whose output the variants of a stack change, and the function for it."""
    found: list[tuple[nn.Module, Callable[..., Tensor | None]]] = []
    if stack.having("projected"):
        found.append((model.get_submodule(stack.site.projection), stack.after_projection))
    if stack.having("position_embedding"):
        found.append((model.get_submodule(stack.site.position_table), stack.after_positions))
    return found


def take(model: nn.Module, module: nn.Module) -> None:
    """Remove the stack of an attention module of `model`."""
    stack: Stack = getattr(module, ATTRIBUTE)
    of_stack: list[tuple[dict[int, Any], Callable[..., Any]]] = [(module._forward_pre_hooks, arrive)]
    of_stack += [(layer._forward_hooks, after) for layer, after in _after_layers(model, stack)]
    delattr(module, ATTRIBUTE)
    for hooks, own in of_stack:
        for key in [key for key, hook in hooks.items() if hook == own]:
            del hooks[key]


def arrive(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Keep the arguments of an attention module for its variants, before its forward.

    Raises:
        ValueError: its config names another kernel than the dispatcher, set after attaching: a forward on it
            would leave the variants out.
    """
    stack: Stack = getattr(module, ATTRIBUTE)
    if _bypassed:
        return
    if len(stack):
        stack.state.arguments = Arguments(args, kwargs)
    name = getattr(getattr(module, "config", stack.config), "_attn_implementation", None)
    if name is not None and name != NAMES[stack.kernel_name]:
        raise ValueError(
            f"{type(module).__name__}: the attention kernel was set to {name!r} while variants are attached, "
            "which would leave them out. Set the kernel before the variants are attached: detach, set it, "
            f"attach again; or set {NAMES[stack.kernel_name]!r} again."
        )


@contextmanager
def on_own_kernels() -> Iterator[None]:
    """Let models run on their own kernels inside the block."""
    global _bypassed
    before, _bypassed = _bypassed, True
    try:
        yield
    finally:
        _bypassed = before


class EditedWeight(Protocol):
    """A part of a weight that `attach` multiplied by a factor."""

    @property
    def parameter(self) -> str: ...

    def multiply(self, module: nn.Module, factor: float) -> None: ...


class Stack(nn.ModuleList):
    """The variants of one site, in order, and the model's own kernel; `forward` fixes the order of hooks.

    Args:
        variants: instances for this site; an empty list is stock attention through this file.
        kernel: the function that the model called before, sdpa's or the eager one of its modeling file.
        kernel_name: "sdpa" or "eager".
        site: place and sizes of the attention module.
        state: that all stacks of the model share; None: of this stack alone.
    """

    def __init__(
        self,
        variants: Sequence[Variant],
        kernel: Kernel,
        kernel_name: str,
        site: Site,
        state: ForwardState | None = None,
    ) -> None:
        super().__init__(variants)
        self.kernel, self.kernel_name, self.site = kernel, kernel_name, site
        self.state = state or ForwardState()
        self.positions: Mapping[str, int] = {}
        self.config: Any = None  # that names the kernel, where the attention module has none of its own
        self.read: Sequence[int] | None = None  # see `forward`; of the call that is running
        self.call: Call | None = None  # between the kernel and the projection of the output
        self.recipe: Recipe = []
        self.weight_edits: list[tuple[EditedWeight, float]] = []  # so that `detach` can undo them
        self.hooks = frozenset().union(*(variant.hooks for variant in variants))
        self.explicit = bool(self.having(*SCORE_HOOKS))
        # Another kernel (`custom_attention.use_kernel`): `kernel` is not the model's own, and where it
        # computes the `scores` of the variants too, `scores_kernel` is what does.
        self.own_kernel = True
        self.scores_kernel: Kernel | None = None
        self.replaces_kernel = bool(self.having("attend"))

    @property
    def variants(self) -> list[Variant]:
        """The variants in order, with their type: as a ModuleList the stack holds any `nn.Module`."""
        return cast(list[Variant], list(self))

    @property
    def device(self) -> torch.device:
        """The device of the variants' parameters; the CPU where they have none."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    def having(self, *hooks: str) -> list[Variant]:
        """Return the variants that override at least one of `hooks`."""
        if self.hooks.isdisjoint(hooks):
            return []
        return [variant for variant in self.variants if not variant.hooks.isdisjoint(hooks)]

    def forward(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        scaling: float | None,
        dropout: float,
        kwargs: Mapping[str, Any],
        read: Sequence[int] | None = None,
    ) -> Attended:
        """Compute one call of this site: output (batch, query_len, heads, head_dim), and weights or None.

        Args:
            scaling: the model's factor on query @ key; with None the kernel chooses.
            kwargs: other arguments of the model for its kernel.
            read: for each example, the number of its first queries whose output is used; None: all. The
                output of other queries is finite and not defined further.
        """
        self.read = read
        call = Call(self, module, query, key, value, mask, scaling, dropout, kwargs, read)
        if not len(self) and not call.drops_in_blocks:
            return self.kernel(module, query, key, value, mask, scaling=scaling, dropout=dropout, **kwargs)
        query, key, value = self.enter(call)
        if self.explicit:
            with torch.autocast(query.device.type, enabled=False):  # autocast would form scores in 16 bits
                output, weights = self._attend_explicitly(call, query, key, value)
        elif self.replaces_kernel:
            output, weights = self.having("attend")[0].attend(call), None
        else:
            output, weights = call.attend(query, key, value), call.weights
        for variant in self.having("transfer") if self.training else ():
            of_queries = variant.transfer(output, call)
            if of_queries is not None:
                unpadded = call.unpadded_queries
                output = self.state.transfer.join(output, of_queries, unpadded, self.site)
        for variant in self.variants:
            if "output_gain" in variant.hooks:
                output = _multiplied(output, variant.output_gain()[:, None])
            output = variant.output(output, call)
        self.call = call if self.having("projected") else None
        self.state.arguments = None
        return output.transpose(1, 2).contiguous(), weights

    def after_projection(self, _: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        """Run the hooks after the projection of the output: a forward hook of that layer."""
        call, self.call = self.call, None
        if call is None:  # the model runs on its own kernel
            return None
        for variant in self.having("projected"):
            output = variant.projected(output, call)
        return output

    def after_positions(self, _: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        """Run the hooks on the rows of the model's table of positions: a forward hook of that table."""
        if _bypassed:
            return None
        for variant in self.having("position_embedding"):
            output = variant.position_embedding(output)
        return output

    def enter(self, call: Call) -> tuple[Tensor, Tensor, Tensor]:
        """Run the hooks before the kernel: return queries, keys and values, and set what `call` has of mask,
        scale, bias and dropout."""
        query, key, value = call.query, call.key, call.value
        for variant in self.having("mask"):
            call.hide(variant.mask(call.visible_keys(), call))
        for variant in self.variants:
            if "query_gain" in variant.hooks:
                query = _multiplied(query, variant.query_gain()[:, None])
            query = variant.query(query, call)
        for variant in self.having("key"):
            key = variant.key(key, call)
        for variant in self.having("value"):
            value = variant.value(value, call)
        for variant in self.having("dropout_rate"):
            call.dropout = variant.dropout_rate(call.dropout, call)
        for variant in self.having("scale"):
            call.scale = call.scaling = variant.scale(call.scale, call)
        for variant in self.having("position_bias"):
            call.position_bias = variant.position_bias(call.position_bias, call)
        for variant in self.having("offset_bias"):
            call.add_by_offset(variant.offset_bias(call.every_offset(), call))
        if self.explicit or self.replaces_kernel or not call.attends_in_blocks:
            call.write_out_offsets()
        call.states = query, key, value
        return call.states

    def _attend_explicitly(self, call: Call, query: Tensor, key: Tensor, value: Tensor) -> Attended:
        """Compute scores, weights and output step by step, at most `SCORE_BLOCK` scores at a time.

        Longer inputs are cut over examples and heads, which keeps the order in which a CPU draws dropout, and
        over query rows where one head has too many scores. In training each block is computed again in the
        backward pass, so that no more than one is in memory. Weights are returned where one block holds all.
        """
        for name in OWN_SCORE_TERMS:
            if call.kwargs.get(name) is not None:
                raise ValueError(
                    f"{type(call.module).__name__}: this model has its own `{name}` inside the softmax; "
                    "a variant that sees the scores cannot replace it."
                )
        if self.scores_kernel is not None:
            return call.attend(query, key, value, self.scores_kernel), None
        repeats = query.shape[1] // key.shape[1]
        key, value = repeat_heads(key, repeats), repeat_heads(value, repeats)
        mask = call.full_mask(key.shape[2])
        examples, heads, rows = self.cuts(query, key, SCORE_BLOCK)
        if len(rows) > 1:
            self._warn_that_rows_are_cut(query, key)

        def block(place: BlockPlace) -> Attended:
            part = call.part(place, mask)
            return self._attend_to_block(part, query[place], key[place[:2]], value[place[:2]])

        if len(examples) == len(heads) == len(rows) == 1:
            return block((slice(None), slice(None), slice(None)))

        def output(place: BlockPlace) -> Tensor:
            if torch.is_grad_enabled():
                return checkpoint(lambda: block(place)[0], use_reentrant=False)
            return block(place)[0]

        return torch.cat(
            [torch.cat([torch.cat([output((e, h, r)) for r in rows], 2) for h in heads], 1) for e in examples]
        ), None

    def cuts(self, query: Tensor, key: Tensor, most: int) -> Cuts:
        """Return slices of examples, heads and query rows whose blocks hold at most `most` scores, or one row
        of them."""
        together = any(variant.mixes_heads for variant in self.variants)
        return score_cuts(query.shape[:3], key.shape[2], together, most)

    def _attend_to_block(self, call: Call, query: Tensor, key: Tensor, value: Tensor) -> Attended:
        """Compute one block: `weigh`, dropout, @ value."""
        _, weights = self.weigh(call, query, key)
        for variant in self.having("dropout"):
            weights = variant.on_heads(call.heads).dropout(weights, call)
        if call.dropout and not self.having("dropout"):
            drop = drop_elements if call.drops_in_blocks else nn.functional.dropout
            weights = drop(weights, call.dropout)
        return torch.matmul(weights.to(value.dtype), value), weights.to(query.dtype)

    def weigh(self, call: Call, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores (with bias and mask) and weights of one block, in float32 or wider, the mask last.

        Args:
            call: the call of this block, as `Call.part` cuts it.
            query, key: (batch, heads, len, head_dim), key heads repeated.
        """
        variants = [variant.on_heads(call.heads) for variant in self.variants]
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
            # As sdpa: a row without a visible key gets 0; under a bias sdpa gives the mean of the values.
            weights = weights.masked_fill(hidden, 0.0)
        return scores, weights

    def _warn_that_rows_are_cut(self, query: Tensor, key: Tensor) -> None:
        together = any(variant.mixes_heads for variant in self.variants)
        what = "all heads, which mix," if together else "one head"
        draws = "; dropout then draws other numbers than without blocks" if together else ""
        warnings.warn(
            f"{self.site.name}: {query.shape[2]} x {key.shape[2]} scores of {what} exceed the block of "
            f"{SCORE_BLOCK} scores, so attention is computed some query rows at a time{draws}.",
            stacklevel=2,
        )


def _multiplied(states: Tensor, gain: Tensor) -> Tensor:
    """Return the product, computed in the wider of both types and rounded once."""
    return (states * gain).to(states.dtype)
