"""Refuse variants that can do nothing: a parameter that nothing reads, hooks that change nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from custom_attention.attach import attached
from custom_attention.errors import VariantError
from custom_attention.hook_calls import changes, watched
from custom_attention.modes import quiet
from custom_attention.proof import outputs
from custom_attention.training import penalty, set_progress
from custom_attention.variant import Variant


def refuse_untrainable(model: PreTrainedModel, batch: Mapping[str, Any]) -> None:
    """Refuse an attached variant with a parameter that no training moves.

    Costs a forward and a backward where a variant has parameters. Some may get a gradient of 0 from this
    batch by chance, but not all of a variant at every site. Weights, gradients, modes and the random state
    are as before when it returns. Parameters that do not require a gradient are left out.

    Args:
        batch: keyword arguments of one forward.

    Raises:
        VariantError: there is one; it names the parameter, the site and the hooks.
    """
    places = [place for members in _by_position(model) for place in _places(members)]
    if not places:
        return
    gradients = _gradients(model, batch, places)
    for place, gradient in zip(places, gradients, strict=True):
        if gradient is None:
            what = f"its parameter {place.parameter} has no part in the output"
            raise _idle(place, what, f"{place.site} of the first batch")
    moving = {place.variant for place, gradient in zip(places, gradients) if _moves(gradient)}
    for place in places:
        if place.variant not in moving:
            raise _idle(place, f"its parameters ({_listed(places, place)}) get a gradient of 0", "every site")


def refuse_idle(model: PreTrainedModel, batch: Mapping[str, Any]) -> None:
    """Refuse an attached variant without parameters whose hooks change no bit, at any time of training.

    Costs three forwards where there is such a variant. What draws random numbers, publishes states, or stands
    in place of the model's dropout or kernel is not idle. The random state, modes and progress are as before.

    Args:
        batch: keyword arguments of one forward, with the longest input that there is.

    Raises:
        VariantError: there is one, or a hook fails in training mode; it names the variant and its hooks.
    """
    bare = [
        members[0]
        for members in _by_position(model)
        if not members[0].variant.is_control
        and not any(True for one in members for _ in one.variant.parameters())
    ]
    stacks = [stack for _, stack in attached(model)]
    if not bare or any(stack.weight_edits for stack in stacks):
        return
    active: set[type[Variant]] = set()

    def see(cls: type[Variant], hook: str, args: tuple[Any, ...], result: Any) -> None:
        if cls not in active and changes(hook, args, result):
            active.add(cls)

    state = stacks[0].state
    before = state.progress
    with quiet(model), torch.no_grad(), watched(model, see):
        for stack in stacks:
            stack.train()  # a hook may act, or fail, in no other mode
        random_state = torch.get_rng_state()
        for progress in (0.0, 0.5, 1.0):
            set_progress(model, progress)
            outputs(model, batch)
        draws = not torch.equal(torch.get_rng_state(), random_state)
    set_progress(model, before)
    for one in bare if not draws and not state.has_published else ():
        if type(one.variant) not in active:
            what = f"it has no parameter, and its hooks ({_hooks(one.variant)}) change no bit of a batch"
            fix = (
                "change a state in a hook, or choose other options; a control has is_control = True, no hook"
            )
            raise VariantError(one.name, f"{what}, so it is stock attention", accepted=fix)


@dataclass(frozen=True)
class _Place:
    """A parameter of a variant at one site."""

    variant: tuple[int, str]  # position in the list, and name
    hooks: str
    site: str
    parameter: str
    tensor: nn.Parameter


@dataclass(frozen=True)
class _Member:
    """A variant at one site."""

    position: int
    name: str
    variant: Variant


def _by_position(model: PreTrainedModel) -> list[list[_Member]]:
    """Return the instances of each attached variant, one list for each entry of the spec."""
    stacks = [stack for _, stack in attached(model) if len(stack)]
    return [
        [_Member(position, name, stack.variants[position]) for stack in stacks]
        for position, (name, _) in enumerate(stacks[0].recipe if stacks else ())
    ]


def _places(members: list[_Member]) -> list[_Place]:
    return [
        _Place((m.position, m.name), _hooks(m.variant), m.variant.site.name, parameter, tensor)
        for m in members
        for parameter, tensor in m.variant.named_parameters()
        if tensor.requires_grad
    ]


def _gradients(
    model: PreTrainedModel, batch: Mapping[str, Any], places: list[_Place]
) -> tuple[Tensor | None, ...]:
    """Return the gradient of a sum of all outputs and the penalty; None where no output depends on a tensor.

    Outputs are multiplied by fixed noise: after a LayerNorm a plain sum or square would be constant. Variants
    are in training mode, because some act in no other; the model is not, so that its statistics stay.
    """
    generator = torch.Generator().manual_seed(5)
    with quiet(model), torch.enable_grad(), watched(model):
        for _, stack in attached(model):
            stack.train()
        total: Tensor | None = None
        for output in outputs(model, batch).values():
            noise = torch.randn(output.shape, generator=generator).to(output.device)
            part = (output.float() * noise).sum()
            total = part if total is None else total + part
        if total is None or not total.requires_grad:
            return (None,) * len(places)
        tensors = [place.tensor for place in places]
        of_output = torch.autograd.grad(total, tensors, allow_unused=True)
        extra = penalty(model)
        if extra is None or not extra.requires_grad:
            return of_output
        of_penalty = torch.autograd.grad(extra, tensors, allow_unused=True)
        return tuple(
            one if one is None or other is None else one + other for one, other in zip(of_output, of_penalty)
        )


def _hooks(variant: Variant) -> str:
    return ", ".join(sorted(variant.hooks)) or "none"


def _moves(gradient: Tensor | None) -> bool:
    return gradient is not None and not bool((gradient == 0).all())


def _listed(places: list[_Place], one: _Place) -> str:
    return ", ".join(dict.fromkeys(place.parameter for place in places if place.variant == one.variant))


def _idle(place: _Place, what: str, where: str) -> VariantError:
    return VariantError(
        place.variant[1],
        f"{what} at {where}, so training cannot move it (its hooks: {place.hooks})",
        accepted="let a hook use it without detach(), .data or rounding, or train nothing of it "
        "(train_variant: false)",
    )
