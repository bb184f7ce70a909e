"""Attach a run's attention variants to its model and prove that the swap is what it claims."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

import custom_attention
from pipelines.config.load import RunConfig
from pipelines.distributed.transfer import to_device
from pipelines.errors import UserError
from pipelines.models import saving


@contextmanager
def variant_errors_as_user_errors() -> Iterator[None]:
    """`custom_attention` knows nothing of `pipelines`: its refusals become ours here."""
    try:
        yield
    except custom_attention.VariantError as error:
        raise UserError(f"attention: {error.where}", error.what, error.came, error.accepted) from error


def attach(config: RunConfig, model: Any, example: dict[str, Any] | None = None) -> None:
    """Attach the run's variants to its model, in place."""
    spec = [{variant.name: variant.options} for variant in config.attention]
    custom_attention.attach(model, spec, where=config.where, example=example)


def attach_and_prove(config: RunConfig, model: Any, batch: dict[str, Any]) -> tuple[Any, Any]:
    """Swap the attention in and prove on a real batch that it is what it claims to be.

    A model that brings its variants along keeps them as they are: it need not equal stock attention any more.

    Raises:
        UserError: the model or a variant refuses, or the swap is not the exact function it should be.
    """
    inputs = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
    with variant_errors_as_user_errors():
        goes_on = custom_attention.is_attached(model)
        if goes_on:
            stacks = (stack for _, stack in custom_attention.attached(model))
            require_stated_variants(config, next(stack.recipe for stack in stacks if len(stack)))
        else:
            attach(config, model, inputs)
        saving.check(model)
        proof = custom_attention.prove(model, to_device(inputs, next(model.parameters()).device))
    if goes_on:
        proof = continued_proof(proof)
    if not proof.passed:
        raise UserError("attention", f"the swap is not exact: {proof.sentence.rstrip('.')}")
    return model, proof


def continued_proof(proof: custom_attention.Proof) -> custom_attention.Proof:
    """The proof of a model that goes on with trained variants: it need not equal stock any more."""
    passed = proof.reached == proof.expected and math.isfinite(proof.max_difference)
    sentence = (
        f"goes on with the attention that the model brings: {proof.max_difference:.3g} away from stock on "
        f"this batch; {proof.reached} of {proof.expected} attention sites reached."
    )
    return replace(proof, starts_as_stock=False, passed=passed, sentence=sentence)


def require_stated_variants(config: RunConfig, carried: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Refuse a model that came with other variants than the run states: its record would tell a lie.

    Raises:
        UserError: as when a model of the Hub is named without `hub:`, so that its variants were not known.
    """
    if list(carried) != [(spec.name, spec.options) for spec in config.attention]:
        names = ", ".join(name for name, _ in carried)
        fix = "name it as hub:ORG/NAME, or as the folder that it is in"
        raise UserError("model.name", f"carries variants ({names})", config.model.name, fix)
