"""Multiplying a variant into the weights, so that a plain stock model computes the same function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from custom_attention.attach import attached, detach
from custom_attention.dummy_inputs import made_up_example
from custom_attention.errors import VariantError
from custom_attention.head_weights import WeightBlock, head_blocks, output_blocks, refuse_shared_weights
from custom_attention.modes import quiet
from custom_attention.proof import largest_difference, outputs
from custom_attention.runtime.dispatch import Stack
from custom_attention.sites import Found, bypassing
from custom_attention.variant import FOLDABLE_HOOKS

FLOAT32_BOUND = 1e-5  # of the largest output, at least of 1; other types get as many of their eps
Edit = tuple[nn.Module, WeightBlock, torch.Tensor]  # module, part of a weight, factor along its axis


@dataclass(frozen=True)
class Fold:
    """What folding changed.

    Attributes:
        max_difference: the largest difference of any output on the batches that it was checked on.
        bound: what it may be.
        num_sites: attention sites whose weights took a variant in.
        num_batches: batches that it was checked on.
    """

    max_difference: float
    bound: float
    num_sites: int
    num_batches: int

    @property
    def sentence(self) -> str:
        return (
            f"folded {self.num_sites} attention sites into stock weights: largest difference "
            f"{self.max_difference:.3g} (bound {self.bound:.3g}) on {self.num_batches} "
            f"batch{'es' if self.num_batches > 1 else ''}."
        )


def fold(model: nn.Module, *examples: Mapping) -> Fold:
    """Turn `model`, in place, into a stock model of the same function; its variants and their parameters
    are gone.

    Constant factors go into W_q, and into W_v or W_o, rounded once from float64. The result is compared
    with the model as it was, on a made-up batch and on each of `examples` (keyword arguments of a forward),
    and the weights are put back if it differs. A model for which no batch can be made up needs an example.

    Raises:
        VariantError: a variant depends on its input or sees the scores, the weights of a head cannot be
            told apart, or the result would differ.
    """
    pairs = [(module, stack) for module, stack in attached(model) if len(stack)]
    if not pairs:
        raise VariantError(type(model).__name__, "nothing to fold, no variant is attached")
    for _, stack in pairs:
        _refuse_live(stack)
    batches = _batches(model, examples)
    found = [Found(stack.site, module, stack.kernel_name) for module, stack in pairs]
    with torch.no_grad(), quiet(model):
        edits = _query_edits(model, found, batches[0]) + _output_edits(model, found, batches[0])
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
        stack.weight_edits = []  # what `attach` compensated is part of what is folded, so nothing is undone
    detach(model)
    return Fold(max(difference for difference, _ in gaps), max(bounds), len(pairs), len(batches))


def bound_of(dtype: torch.dtype, largest: float) -> float:
    """How far outputs of which the largest is `largest` may move when factors go into weights of a type."""
    return FLOAT32_BOUND / torch.finfo(torch.float32).eps * torch.finfo(dtype).eps * max(1.0, largest)


def _batches(model: nn.Module, examples: tuple[Mapping, ...]) -> list[dict]:
    try:
        made_up = [made_up_example(model)]
    except VariantError:
        if not examples:
            raise
        made_up = []
    return [*made_up, *map(dict, examples)]


def _refuse_live(stack: Stack) -> None:
    for (name, _), variant in zip(stack.recipe, stack):
        if not variant.foldable:
            live = ", ".join(sorted(variant.hooks - set(FOLDABLE_HOOKS)))
            raise VariantError(
                name,
                f"cannot be folded at {stack.site.name}: its hook {live} depends on the input",
                accepted="keep it with its code (custom_attention.save, attnlab push)",
            )


def _query_edits(model: nn.Module, found: list[Found], batch: dict) -> list[Edit]:
    factors = {}
    for f in found:
        stack = f.module.attnlab
        scale = f.site.scale
        for variant in stack.having("scale"):
            scale = variant.scale(scale, None)
        factor = _product(f, [variant.query_gain() for variant in stack.having("query_gain")])
        factors[f.module] = factor * (scale / f.site.scale)
    moved = [f for f in found if not bool((factors[f.module] == 1).all())]
    if not moved:
        return []
    blocks = head_blocks(model, moved, "query", batch)
    refuse_shared_weights(blocks)
    return _along(blocks, factors)


def _output_edits(model: nn.Module, found: list[Found], batch: dict) -> list[Edit]:
    """Into the values where each query head has its own, else into the projection after the heads."""
    factors = {
        f.module: _product(f, [variant.output_gain() for variant in f.module.attnlab.having("output_gain")])
        for f in found
    }
    moved = [f for f in found if not bool((factors[f.module] == 1).all())]
    own = [f for f in moved if f.site.num_heads == f.site.num_key_heads]
    grouped = [f for f in moved if f.site.num_heads != f.site.num_key_heads]
    blocks = head_blocks(model, own, "value", batch) if own else {}
    blocks |= output_blocks(model, grouped, batch) if grouped else {}
    refuse_shared_weights(blocks)
    return _along(blocks, factors)


def _product(found: Found, gains: list[torch.Tensor]) -> torch.Tensor:
    """The product of gains in float64, (heads, 1 | head_dim)."""
    product = torch.ones(found.site.num_heads, 1, dtype=torch.float64, device=found.module.attnlab.device)
    for gain in gains:
        product = product * gain.double()
    return product


def _along(
    blocks: dict[nn.Module, list[list[WeightBlock]]], factors: dict[nn.Module, torch.Tensor]
) -> list[Edit]:
    """One edit for each block, with one factor for each index of its axis."""
    return [
        (module, block, factors[module][head].expand(block.length))
        for module, heads in blocks.items()
        for head, parts in enumerate(heads)
        for block in parts
    ]
