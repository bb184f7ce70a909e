"""The checks that every variant passes, each on one family of tiny models.

A check gets a model with the variant at its initial parameters, may change it, and raises `CheckFailed`.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from custom_attention.attach import attached, detach, variant_parameters
from custom_attention.battery.models import (
    CAUSAL,
    ENCODER_DECODER,
    FAMILIES,
    GENERATING,
    logits,
    nudge,
    padded,
    tiny,
    unpadded,
)
from custom_attention.dead import refuse_untrainable
from custom_attention.errors import VariantError
from custom_attention.proof import prove
from custom_attention.runtime.dispatch import ATTRIBUTE, observed
from custom_attention.saving import load, save
from custom_attention.training import penalty, set_progress

EPS = torch.finfo(torch.float32).eps
CLOSE = 2000 * EPS  # two orders of summation of outputs of size about 10
GREEDY = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
IDLE = "in training it is stock attention as well; a control on purpose has is_control = True and no hook"

Check = Callable[[Any, str], None]  # (model with the variant, family)


class CheckFailed(AssertionError):
    """What a variant does that it must not, in one sentence without its full stop."""


def can_do_something(model: Any, family: str) -> None:
    """Check that training can make it another function than stock attention."""
    try:
        refuse_untrainable(model, padded(family).inputs)
    except VariantError as error:
        raise CheckFailed(str(error).rstrip(".")) from error
    _require(_can_differ(model, family), f"has no parameter, and {IDLE}")


def _can_differ(model: Any, family: str) -> bool:
    """Tell whether a variant has something to train, or is other than stock attention in training."""
    stacks = [stack for _, stack in attached(model)]
    variants = [variant for stack in stacks for variant in stack.variants]
    if any(v.is_control or v.hooks & {"dropout_rate", "dropout", "transfer"} for v in variants):
        return True
    if variant_parameters(model):
        return True
    for stack in stacks:
        stack.train()  # some variants act in no other mode
    set_progress(model, 1.0)
    torch.manual_seed(6)
    inputs = padded(family).inputs
    return bool((logits(model, inputs) - logits(detach(model), inputs)).abs().max() > 20 * EPS)


def equals_stock(model: Any, family: str) -> None:
    """Check that it starts as stock attention exactly where it says so, and reaches every site."""
    proof = prove(model, padded(family).inputs)
    _require(proof.passed and proof.reached > 0, proof.sentence.rstrip("."))
    if not proof.starts_as_stock:
        _require(proof.max_difference > 20 * EPS, "says that it differs from stock attention, but does not")


def every_parameter_gets_a_gradient(model: Any, family: str) -> None:
    """At the start a factor of 0 may leave a parameter without gradient, but not all parameters of a site."""
    for _, stack in attached(model):
        stack.train()  # some variants act in no other mode
    for at_start in (True, False):
        model.zero_grad()
        torch.manual_seed(6)
        output = model(**padded(family).inputs).logits
        output.square().sum().backward()
        trained = {name: p for name, p in variant_parameters(model).items() if p.requires_grad}
        gradients = {name: p.grad for name, p in trained.items() if p.grad is not None}
        for name in trained:  # a parameter without one would stop DDP
            _require(name in gradients, f"no hook uses the parameter {name}")
        extra = penalty(model)
        if extra is not None:
            extra.backward()
        for name, gradient in gradients.items():
            _require(bool(gradient.isfinite().all()), f"the gradient of {name} is not finite")
        alive = {name for name, gradient in gradients.items() if gradient.abs().max() > 0}
        dead = [name for name in gradients if _variant_of(name) not in {_variant_of(one) for one in alive}]
        _require(not dead, f"no parameter of {dead and _variant_of(dead[0])} gets a gradient")
        lost = [] if at_start else [name for name in gradients if name not in alive]
        _require(not lost, f"the parameter {lost and lost[0]} gets no gradient anywhere")
        nudged(model)


def padding_is_invisible(model: Any, family: str) -> None:
    """Check that an example alone and the same one beside longer ones give the same outputs."""
    batch, model = padded(family), nudged(model)
    together = logits(model, batch.inputs)
    for row in range(len(batch.lengths)):
        alone = logits(model, batch.alone(row))[0]
        _require_close(batch.real(together, row), alone, "an example with padding and without it")


def nothing_ahead_is_seen(model: Any, family: str) -> None:
    """Check that outputs of a causal stack depend on no later token."""
    model, inputs = nudged(model), unpadded(family)
    before = logits(model, inputs)
    for masked in (False, True):
        changed = dict(inputs)
        name = "decoder_input_ids" if family in ENCODER_DECODER else "input_ids"
        changed[name] = inputs[name].clone()
        changed[name][:, 3:] = 44
        if masked and family in CAUSAL:
            changed["attention_mask"] = torch.ones_like(inputs["input_ids"])
        after = logits(model, changed)
        _require_close(after[:, :3], before[:, :3], "outputs before a token that was changed")
        _require(
            bool((after[:, 3:] - before[:, 3:]).abs().max() > 1e-3), "a token does not reach its own output"
        )


def cached_decoding_equals_the_full_forward(model: Any, family: str) -> None:
    """Check that a cache of keys and values changes neither tokens nor logits."""
    model = nudged(model)
    asked = {**prompt(padded(family).inputs), **GREEDY}
    asked |= {"return_dict_in_generate": True, "output_logits": True}
    cached, full = model.generate(**asked, use_cache=True), model.generate(**asked, use_cache=False)
    _require(torch.equal(cached.sequences, full.sequences), "decoding with a cache gives other tokens")
    _require_close(torch.stack(cached.logits), torch.stack(full.logits), "logits with a cache and without it")


def bfloat16_is_close_to_float32(model: Any, family: str) -> None:
    """Check that bfloat16 costs at most four times what it costs stock attention."""
    model, inputs = nudged(model), padded(family).inputs
    wide, narrow = logits(model, inputs), logits(copy.deepcopy(model).to(torch.bfloat16), inputs).float()
    stock = tiny(family)
    stock_error = logits(copy.deepcopy(stock).to(torch.bfloat16), inputs).float() - logits(stock, inputs)
    error = (narrow - wide).pow(2).mean().sqrt().item()
    most = 4 * stock_error.pow(2).mean().sqrt().item() + 0.05
    _require(error < most, f"bfloat16 is off by {error:.3g} (at most {most:.3g})")


def checkpointing_changes_no_gradient(model: Any, family: str) -> None:
    """Check gradient checkpointing with dropout, which draws the same numbers in the second run."""
    model, inputs = nudged(model).train(), padded(family).inputs
    gradients: list[list[Tensor]] = []
    calls: list[nn.Module] = []
    for checkpointing in (False, True):
        if checkpointing:
            model.activation_checkpointing_enable()
        model.zero_grad()
        torch.manual_seed(6)
        with observed(lambda module, *_: calls.append(module)):
            model(**inputs, use_cache=False).logits.square().mean().backward()
        parameters = variant_parameters(model) or dict(model.named_parameters())
        gradients.append([p.grad.clone() for p in parameters.values() if p.grad is not None])
    _require(len(calls) == 3 * len(attached(model)), "the sites do not run again in the backward pass")
    for first, second in zip(*gradients, strict=True):
        same = torch.allclose(first, second, rtol=1e-4, atol=1e-6)
        _require(same, "gradient checkpointing changes a gradient")


def a_saved_folder_gives_the_same_function(model: Any, family: str) -> None:
    """Check that it saves with its code, and loads by this package and as a stranger's folder."""
    model, inputs = nudged(model), padded(family).inputs
    expected = logits(model, inputs)
    with tempfile.TemporaryDirectory() as folder:
        save(model, folder)
        _require(
            torch.equal(logits(load(folder), inputs), expected), "a saved model loads as another function"
        )
        autos = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))["auto_map"]
        auto = next(name for name in autos if name != "AutoConfig")
        again = getattr(transformers, auto).from_pretrained(folder)
        _require(torch.equal(logits(again, inputs), expected), f"{auto} loads it as another function")


CHECKS: Mapping[str, tuple[tuple[str, ...], Check]] = {
    "alive": (FAMILIES, can_do_something),
    "exact": (FAMILIES, equals_stock),
    "causal": (GENERATING, nothing_ahead_is_seen),
    "padding": (FAMILIES, padding_is_invisible),
    "cache": (GENERATING, cached_decoding_equals_the_full_forward),
    "gradient": (FAMILIES, every_parameter_gets_a_gradient),
    "bf16": (FAMILIES, bfloat16_is_close_to_float32),
    "checkpointing": (FAMILIES, checkpointing_changes_no_gradient),
    "save": (FAMILIES, a_saved_folder_gives_the_same_function),
}  # name -> families that it concerns, and the check


def nudged(model: Any) -> Any:
    """Move the parameters of the variants away from where they start, and return the model."""
    nudge(variant_parameters(model).values())
    return model


def prompt(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what `generate` gets of a batch."""
    return {name: value for name, value in inputs.items() if name in ("input_ids", "attention_mask")}


def _variant_of(parameter: str) -> str:
    """Return the path of the variant that a parameter belongs to, maybe by a layer of its own."""
    site, _, rest = parameter.rpartition(f"{ATTRIBUTE}.")
    return f"{site}{ATTRIBUTE}.{rest.partition('.')[0]}"


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise CheckFailed(otherwise)


def _require_close(one: Tensor, other: Tensor, what: str) -> None:
    gap = (one - other).abs().max().item()
    _require(gap <= CLOSE, f"{what} differ by {gap:.3g} (at most {CLOSE:.3g})")
