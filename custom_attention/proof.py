"""Compare an attached model with its stock form on one batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from custom_attention.attach import attached
from custom_attention.errors import VariantError
from custom_attention.hook_calls import watched
from custom_attention.kernel_names import bypassing
from custom_attention.modes import quiet
from custom_attention.runtime.dispatch import Stack, observed

EXPLICIT_BOUND = 50  # in eps of the model's type, relative to the largest output
PART = 2**22  # numbers that are compared at a time


@dataclass(frozen=True)
class Proof:
    """How far the attached model is from stock on one batch.

    Attributes:
        max_difference: largest absolute difference between any output with and without the variants.
        bound: the largest difference that passes: 0.0 on the model's own kernel; 50 eps of the largest output
            on the explicit path or a kernel of a variant, and where compensated weights were rounded.
        exact: max_difference is 0.0.
        starts_as_stock: every attached variant declares that it starts as stock attention.
        reached: sites with variants that the batch ran through.
        expected: sites with variants that the model has.
        passed: all sites reached, all outputs finite, and within the bound if all variants start as stock.
        sentence: the above in words.
    """

    max_difference: float
    bound: float
    exact: bool
    starts_as_stock: bool
    reached: int
    expected: int
    passed: bool
    sentence: str


def prove(model: PreTrainedModel, batch: Mapping[str, Any]) -> Proof:
    """Compare the attached model with itself on the stock kernel, with the weights before `attach`.

    Both run in evaluation mode and from one seed, because some models draw random numbers there too. If the
    batch has an attention mask, only outputs at real tokens are compared. Weights, gradients, modes and the
    random state are as before when it returns.

    Args:
        batch: keyword arguments of one forward.

    Raises:
        VariantError: nothing is attached, or a hook raises or returns no state.
    """
    pairs = attached(model)
    if not pairs:
        raise VariantError(type(model).__name__, "nothing to prove, no variant is attached")
    carrying = {module: stack for module, stack in pairs if len(stack)} or dict(pairs)
    seen: set[nn.Module] = set()

    def note(module: nn.Module, *_: object) -> None:
        seen.add(module)

    with quiet(model), torch.no_grad():
        start = torch.get_rng_state()
        with observed(note), watched(model):
            swapped = outputs(model, batch)
        torch.set_rng_state(start)
        with bypassing(model), _original_weights(pairs):
            stock = outputs(model, batch)
    difference, largest = largest_difference(swapped, stock)
    finite = all(swapped[name].isfinite().all() for name in swapped)
    variants = [variant for stack in carrying.values() for variant in stack.variants]
    starts_as_stock = all(variant.neutral_at_start for variant in variants)
    bound = EXPLICIT_BOUND * largest * torch.finfo(model.dtype).eps if _rounds(carrying) else 0.0
    reached = len(seen & carrying.keys())
    passed = finite and reached == len(carrying) and (difference <= bound or not starts_as_stock)
    verdict = _verdict(difference, bound, starts_as_stock, passed, finite)
    return Proof(
        max_difference=difference,
        bound=bound,
        exact=difference == 0.0,
        starts_as_stock=starts_as_stock,
        reached=reached,
        expected=len(carrying),
        passed=passed,
        sentence=f"{verdict}; {reached} of {len(carrying)} attention sites reached.",
    )


def _rounds(stacks: Mapping[nn.Module, Stack]) -> bool:
    """Return whether the swap rounds differently from the stock kernel where it is the same function."""
    edited = [factor for stack in stacks.values() for _, factor in stack.weight_edits]
    off_kernel = any(
        stack.explicit or stack.replaces_kernel or not stack.own_kernel for stack in stacks.values()
    )
    return off_kernel or any(math.frexp(factor)[0] != 0.5 for factor in edited)


@contextmanager
def _original_weights(pairs: list[tuple[nn.Module, Stack]]) -> Iterator[None]:
    """Undo the weight edits of `attach`, then restore the edited weights bit for bit."""
    kept: dict[nn.Parameter, Tensor] = {}
    for module, stack in pairs:
        for block, factor in stack.weight_edits:
            parameter = module.get_parameter(block.parameter)
            kept.setdefault(parameter, parameter.data.clone())
            block.multiply(module, 1 / factor)
    try:
        yield
    finally:
        for parameter, data in kept.items():
            parameter.data.copy_(data)


def largest_difference(outputs: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> tuple[float, float]:
    """Return the largest absolute difference of outputs of one name, and the largest absolute value among
    `others`.

    Both are NaN, which is within no bound, if there is nothing to compare or a number is not finite.
    """
    names = [name for name in others if name in outputs and others[name].numel()]
    if not names:
        return math.nan, math.nan
    parts = [pair for name in names for pair in zip(_parts(outputs[name]), _parts(others[name]), strict=True)]
    gaps = [(one.double() - other.double()).abs().max() for one, other in parts]
    sizes = [other.double().abs().max() for _, other in parts]
    return torch.stack(gaps).max().item(), torch.stack(sizes).max().item()


def _parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """Return the numbers in parts: all logits in double precision would take more memory than a step."""
    return tensor.flatten().split(PART)


def outputs(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """Run a forward and return its floating-point outputs by name, without rows of padding."""
    found: dict[str, Tensor] = {}

    def collect(name: str, value: object) -> None:
        if isinstance(value, Tensor) and value.is_floating_point():
            found[name] = _at_real_tokens(name, value, batch)
        elif isinstance(value, (tuple, list)):
            for position, part in enumerate(value):
                collect(f"{name}.{position}", part)

    output = model(**batch)
    for name, value in output.items() if isinstance(output, Mapping) else enumerate(output):
        collect(str(name), value)
    return found


def _at_real_tokens(name: str, value: Tensor, batch: Mapping[str, Any]) -> Tensor:
    encoder_side = name.startswith("encoder") or "decoder_attention_mask" not in batch
    mask = batch.get("attention_mask" if encoder_side else "decoder_attention_mask")
    if mask is None or mask.dim() != 2 or value.shape[:2] != mask.shape:
        return value
    return value[mask.bool()]


def _verdict(difference: float, bound: float, starts_as_stock: bool, passed: bool, finite: bool) -> str:
    if not starts_as_stock:
        start = f"this arm does not start as stock attention (largest difference {difference:.3g})"
        return start if finite else f"{start}, with non-finite outputs"
    if passed:
        verdict = "the swap is exact" if difference == 0.0 else "the swap is exact up to rounding"
    else:
        verdict = "the swap changed the model" if difference > bound else "the swap is not proven"
    return f"{verdict}: largest difference to stock {difference:.3g} (bound {bound:.3g})"
