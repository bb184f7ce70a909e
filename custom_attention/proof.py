"""Evidence on a real batch that a swap is the swap it claims to be."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from custom_attention.attach import attached
from custom_attention.errors import VariantError
from custom_attention.modes import quiet
from custom_attention.runtime.dispatch import observed
from custom_attention.sites import bypassing

EXPLICIT_BOUND = 50  # in eps of the model's type, relative to the largest output


@dataclass(frozen=True)
class Proof:
    """How far the attached model is from stock on one batch.

    Attributes:
        max_difference: largest absolute difference between any output with and without the variants.
        bound: what it may be: 0.0 on the model's own kernel; 50 eps of the largest output on the explicit
            path and where compensated weights were rounded.
        exact: max_difference is 0.0.
        starts_as_stock: every attached variant claims to start as stock attention.
        reached, expected: sites with variants that the batch ran through, and that exist.
        passed: all sites reached, finite, and within the bound where stock is claimed.
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


def prove(model: nn.Module, batch: Mapping) -> Proof:
    """Compare the attached model with itself on the stock kernel (weights as before `attach`), in
    evaluation mode, and from one seed, since some models draw there too.

    Only outputs at real tokens count, where the batch has an attention mask. Weights, gradients, modes and
    the random stream are as before when it returns.
    """
    pairs = attached(model)
    if not pairs:
        raise VariantError(type(model).__name__, "nothing to prove, no variant is attached")
    carrying = {module: stack for module, stack in pairs if len(stack)} or dict(pairs)
    seen: set[nn.Module] = set()
    with quiet(model), torch.no_grad():
        start = torch.get_rng_state()
        with observed(lambda module, *_: seen.add(module)):
            swapped = outputs(model, batch)
        torch.set_rng_state(start)
        with bypassing(model), _original_weights(pairs):
            stock = outputs(model, batch)
    difference, largest = largest_difference(swapped, stock)
    finite = all(swapped[name].isfinite().all() for name in swapped)
    claims = all(variant.neutral_at_start for stack in carrying.values() for variant in stack)
    bound = EXPLICIT_BOUND * largest * torch.finfo(model.dtype).eps if _rounds(carrying) else 0.0
    reached = len(seen & carrying.keys())
    passed = finite and reached == len(carrying) and (difference <= bound or not claims)
    sentence = _sentence(difference, bound, claims, reached, len(carrying), passed, finite)
    return Proof(difference, bound, difference == 0.0, claims, reached, len(carrying), passed, sentence)


def _rounds(stacks: Mapping[nn.Module, nn.Module]) -> bool:
    """Whether the swap rounds differently from the stock kernel even where it is the same function."""
    edited = [factor for stack in stacks.values() for _, factor in stack.weight_edits]
    return any(stack.explicit for stack in stacks.values()) or any(math.frexp(f)[0] != 0.5 for f in edited)


@contextmanager
def _original_weights(pairs) -> Iterator[None]:
    """Undo the weight edits of `attach` for a while, then put back the very same bits."""
    kept = {}
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


def largest_difference(ones: Mapping, others: Mapping) -> tuple[float, float]:
    """The largest absolute difference over outputs of the same name, and the largest absolute value among
    `others`.

    NaN, which is within no bound, where there is nothing to compare or a number is not finite.
    """
    names = [name for name in others if name in ones and others[name].numel()]
    gaps = [(ones[name].double() - others[name].double()).abs().max() for name in names]
    sizes = [others[name].double().abs().max() for name in names]
    if not names:
        return math.nan, math.nan
    return torch.stack(gaps).max().item(), torch.stack(sizes).max().item()


def outputs(model: nn.Module, batch: Mapping) -> dict[str, torch.Tensor]:
    """The floating-point outputs of a forward by name, rows of padding left out."""
    found: dict[str, torch.Tensor] = {}

    def collect(name: str, value) -> None:
        if torch.is_tensor(value) and value.is_floating_point():
            found[name] = _real(name, value, batch)
        elif isinstance(value, (tuple, list)):
            for position, part in enumerate(value):
                collect(f"{name}.{position}", part)

    output = model(**batch)
    for name, value in output.items() if isinstance(output, Mapping) else enumerate(output):
        collect(str(name), value)
    return found


def _real(name: str, value: torch.Tensor, batch: Mapping) -> torch.Tensor:
    encoder_side = name.startswith("encoder") or "decoder_attention_mask" not in batch
    mask = batch.get("attention_mask" if encoder_side else "decoder_attention_mask")
    if mask is None or mask.dim() != 2 or value.shape[:2] != mask.shape:
        return value
    return value[mask.bool()]


def _sentence(difference, bound, claims, reached, expected, passed, finite) -> str:
    where = f"{reached} of {expected} attention sites reached"
    if not claims:
        start = f"this arm starts elsewhere than stock (largest difference {difference:.3g})"
        return f"{start}; {where}." if finite else f"{start}, with non-finite outputs; {where}."
    verdict = "the swap is exact" if passed and difference == 0.0 else "the swap is exact up to rounding"
    if not passed:
        verdict = "THE SWAP CHANGED THE MODEL" if difference > bound else "the swap is not proven"
    return f"{verdict}: largest difference to stock {difference:.3g} (bound {bound:.3g}); {where}."
