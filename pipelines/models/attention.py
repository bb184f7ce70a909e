"""Attach a run's attention variants to its model, and prove that the swap is exact."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from transformers import PreTrainedModel

import custom_attention
from custom_attention.dead import refuse_idle, refuse_untrainable
from pipelines.config.load import RunConfig
from pipelines.distributed.transfer import to_device
from pipelines.errors import UserError
from pipelines.models import saving
from pipelines.models.trial_inputs import shortened, tensors_of
from pipelines.seeds import derive

Recipe = Sequence[tuple[str, Mapping[str, Any]]]  # variants in order: name and options
Inputs = dict[str, torch.Tensor]  # keyword arguments of one forward


@contextmanager
def variant_errors_as_user_errors() -> Iterator[None]:
    """Raise every `VariantError` of the block as a `UserError`.

    `custom_attention` never imports `pipelines`, so its errors are translated here.
    """
    try:
        yield
    except custom_attention.VariantError as error:
        raise UserError(f"attention: {error.where}", error.what, error.came, error.accepted) from error


def attach(config: RunConfig, model: PreTrainedModel, example: dict[str, Any] | None = None) -> None:
    """Attach the run's variants to its model, in place.

    Args:
        example: keyword arguments of one forward of the model; None: a dummy batch is made.
    """
    spec = [{variant.name: variant.options} for variant in config.attention]
    with torch.random.fork_rng(devices=[]):  # a variant may draw parameters: from a stream of its own
        torch.default_generator.manual_seed(derive(config.seed, "variants"))
        custom_attention.attach(model, spec, where=config.where, example=example)


def attach_and_prove(
    config: RunConfig, model: PreTrainedModel, batch: Mapping[str, Any]
) -> tuple[PreTrainedModel, custom_attention.Proof]:
    """Attach the run's variants, in place, and compare the model with stock attention on a real batch.

    A model that was loaded with variants keeps them and their trained parameters; its output need not equal
    that of stock attention.

    Args:
        batch: what `task.collate` returns; only its tensors are passed to the model.

    Returns:
        The same model, and the proof of the swap.

    Raises:
        UserError: the model or a variant cannot be used, the swap is not exact, or a variant can do nothing.
    """
    whole = to_device(tensors_of(batch), next(model.parameters()).device)
    inputs = shortened(model, whole)
    with variant_errors_as_user_errors():
        continues = custom_attention.is_attached(model)
        if continues:
            stacks = (stack for _, stack in custom_attention.attached(model))
            require_stated_variants(config, next(stack.recipe for stack in stacks if len(stack)))
        else:
            attach(config, model, inputs)
        saving.check(model)
        proof = custom_attention.prove(model, inputs)
    if inputs is not whole:
        read, of = inputs["input_ids"].shape[1], whole["input_ids"].shape[1]
        tried = f"{proof.sentence.rstrip('.')}, on the first {read:,} of {of:,} tokens."
        proof = replace(proof, sentence=tried)
    if continues:
        proof = continued_proof(proof)
    if not proof.passed:
        raise UserError("attention", f"the swap is not exact: {proof.sentence.rstrip('.')}")
    if not continues:
        _refuse_dead(refuse_idle, model, inputs, whole)
        if config.train_variant:
            _refuse_dead(refuse_untrainable, model, inputs, whole)
    return model, proof


def _refuse_dead(
    refuse: Callable[[PreTrainedModel, Inputs], None], model: PreTrainedModel, inputs: Inputs, whole: Inputs
) -> None:
    """Refuse a variant that does nothing on `inputs`, nor on `whole`: it may act on far tokens only."""
    with variant_errors_as_user_errors():
        try:
            refuse(model, inputs)
        except custom_attention.VariantError:
            if inputs is whole:
                raise
            refuse(model, whole)


def continued_proof(proof: custom_attention.Proof) -> custom_attention.Proof:
    """Return the proof of a model that already has trained variants.

    It passes when every site was reached and the outputs are finite: trained variants may differ from stock.
    """
    passed = proof.reached == proof.expected and math.isfinite(proof.max_difference)
    sentence = (
        "continues with the attention that the model carries: largest difference to stock "
        f"{proof.max_difference:.3g} on this batch; "
        f"{proof.reached} of {proof.expected} attention sites reached."
    )
    return replace(proof, starts_as_stock=False, passed=passed, sentence=sentence)


def require_stated_variants(config: RunConfig, carried: Recipe) -> None:
    """Refuse a model that was loaded with other variants than the run states.

    This happens when a Hub model with variants is named without `hub:`, so that they were not known when the
    run got its identity.

    Raises:
        UserError: the variants differ from `config.attention`.
    """
    if list(carried) != [(spec.name, spec.options) for spec in config.attention]:
        names = ", ".join(name for name, _ in carried)
        fix = "name it as hub:ORG/NAME, or as the folder that it is in"
        raise UserError("model.name", f"carries variants ({names})", config.model.name, fix)
