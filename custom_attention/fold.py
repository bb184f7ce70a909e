"""Multiply a variant into the weights, so that a plain stock model computes the same function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from custom_attention.attach import attached, detach
from custom_attention.dummy_inputs import made_up_example
from custom_attention.errors import VariantError
from custom_attention.head_weights import (
    BlocksOfHeads,
    WeightBlock,
    head_blocks,
    output_blocks,
    refuse_shared_weights,
)
from custom_attention.kernel_names import bypassing
from custom_attention.modes import quiet
from custom_attention.proof import largest_difference, outputs
from custom_attention.runtime.call import Call
from custom_attention.runtime.dispatch import Stack
from custom_attention.sites import Found
from custom_attention.variant import FOLDABLE_HOOKS, Variant

# Relative to the largest output, or to 1 if that is smaller; for other types scaled by their eps.
FLOAT32_BOUND = 1e-5
Edit = tuple[nn.Module, WeightBlock, Tensor]  # module, part of a weight, factors along its axis


@dataclass(frozen=True)
class Fold:
    """The result of folding.

    Attributes:
        max_difference: the largest difference of any output on the batches of the check.
        bound: the largest difference that is accepted.
        num_sites: attention sites whose variants were folded.
        num_batches: batches of the check.
    """

    max_difference: float
    bound: float
    num_sites: int
    num_batches: int

    @property
    def sentence(self) -> str:
        """The result in words."""
        return (
            f"folded {self.num_sites} attention sites into stock weights: largest difference "
            f"{self.max_difference:.3g} (bound {self.bound:.3g}) on {self.num_batches} "
            f"batch{'es' if self.num_batches > 1 else ''}."
        )


def fold(model: PreTrainedModel, *examples: Mapping[str, Any]) -> Fold:
    """Turn `model`, in place, into a stock model of the same function, without variants and their parameters.

    Constant factors go into W_q, and into W_v or W_o, rounded once from float64. The result is compared
    with the model before, on a made-up batch and on each of `examples` (keyword arguments of a forward), and
    the weights are restored if it differs. A model for which no batch can be made up needs an example.

    Raises:
        VariantError: a variant depends on its input or sees the scores, the weights of one head cannot be
            found, or the result would differ.
    """
    pairs = [(module, stack) for module, stack in attached(model) if len(stack)]
    if not pairs:
        raise VariantError(type(model).__name__, "nothing to fold, no variant is attached")
    for _, stack in pairs:
        _refuse_unfoldable(stack)
    batches = _batches(model, examples)
    stacks = dict(pairs)
    found = [Found(stack.site, module, stack.kernel_name) for module, stack in pairs]
    with torch.no_grad(), quiet(model):
        edits = _query_edits(model, found, stacks, batches[0])
        edits += _output_edits(model, found, stacks, batches[0])
        kept = {p: p.data.clone() for p in {m.get_parameter(block.parameter) for m, block, _ in edits}}
        before = [outputs(model, batch) for batch in batches]
        for module, block, factor in edits:
            block.multiply(module, factor)
        with bypassing(model):
            after = [outputs(model, batch) for batch in batches]
    gaps = [largest_difference(*pair) for pair in zip(after, before)]
    bounds = [bound_of(model.dtype, largest) for _, largest in gaps]
    for (difference, _), bound in zip(gaps, bounds):
        if not difference <= bound:
            for parameter, data in kept.items():
                parameter.data.copy_(data)
            what = f"folding would change an output by {difference:.3g}, more than {bound:.3g}"
            raise VariantError(type(model).__name__, what)
    for _, stack in attached(model):
        stack.weight_edits = []  # they are part of the folded weights, so `detach` must not undo them
    detach(model)
    return Fold(max(difference for difference, _ in gaps), max(bounds), len(pairs), len(batches))


def bound_of(dtype: torch.dtype, largest: float) -> float:
    """Return the largest accepted difference of outputs after folding into weights of type `dtype`.

    Args:
        largest: largest absolute output.
    """
    return FLOAT32_BOUND / torch.finfo(torch.float32).eps * torch.finfo(dtype).eps * max(1.0, largest)


def _batches(model: PreTrainedModel, examples: tuple[Mapping[str, Any], ...]) -> list[Mapping[str, Any]]:
    try:
        made_up = [made_up_example(model)]
    except VariantError:
        if not examples:
            raise
        made_up = []
    return [*made_up, *examples]


def _refuse_unfoldable(stack: Stack) -> None:
    for (name, _), variant in zip(stack.recipe, stack.variants):
        if not variant.foldable:
            hooks = ", ".join(sorted(variant.hooks - set(FOLDABLE_HOOKS)))
            raise VariantError(
                name,
                f"cannot be folded at {stack.site.name}: its hook {hooks} depends on the input",
                accepted="keep it with its code (custom_attention.save, attnlab push)",
            )


def _query_edits(
    model: PreTrainedModel, found: list[Found], stacks: Mapping[nn.Module, Stack], batch: Mapping[str, Any]
) -> list[Edit]:
    """Return what folds scales and query gains into W_q."""
    factors = {}
    for module, stack in stacks.items():
        scale = stack.site.scale
        for variant in stack.having("scale"):
            scale = variant.scale(scale, cast(Call, _NoCall(variant)))
        factor = _product(stack, [variant.query_gain() for variant in stack.having("query_gain")])
        factors[module] = factor * (scale / stack.site.scale)
    moved = [f for f in found if not bool((factors[f.module] == 1).all())]
    if not moved:
        return []
    blocks = head_blocks(model, moved, "query", batch)
    refuse_shared_weights(blocks)
    return _edits(blocks, factors)


def _output_edits(
    model: PreTrainedModel, found: list[Found], stacks: Mapping[nn.Module, Stack], batch: Mapping[str, Any]
) -> list[Edit]:
    """Return what folds output gains into W_v if each query head has its own values, else into W_o."""
    factors = {
        module: _product(stack, [variant.output_gain() for variant in stack.having("output_gain")])
        for module, stack in stacks.items()
    }
    moved = [f for f in found if not bool((factors[f.module] == 1).all())]
    own = [f for f in moved if f.site.num_heads == f.site.num_key_heads]
    grouped = [f for f in moved if f.site.num_heads != f.site.num_key_heads]
    blocks = head_blocks(model, own, "value", batch) if own else {}
    blocks |= output_blocks(model, grouped, batch) if grouped else {}
    refuse_shared_weights(blocks)
    return _edits(blocks, factors)


class _NoCall:
    """Stands in for a call where there is none: a scale that reads it depends on the input."""

    def __init__(self, variant: Variant) -> None:
        self._variant = variant

    def __getattr__(self, name: str) -> NoReturn:
        raise VariantError(
            type(self._variant).__name__,
            f"cannot be folded: its scale reads call.{name}, so it is not constant",
            accepted="keep it with its code (custom_attention.save, attnlab push)",
        )


def _product(stack: Stack, gains: list[Tensor]) -> Tensor:
    """Return the product of gains in float64, (heads, 1 | head_dim)."""
    product = torch.ones(stack.site.num_heads, 1, dtype=torch.float64, device=stack.device)
    for gain in gains:
        product = product * gain.double()
    return product


def _edits(blocks: BlocksOfHeads, factors: Mapping[nn.Module, Tensor]) -> list[Edit]:
    """Return one edit for each block, with one factor for each index of its axis."""
    return [
        (module, block, factors[module][head].expand(block.length))
        for module, heads in blocks.items()
        for head, parts in enumerate(heads)
        for block in parts
    ]
