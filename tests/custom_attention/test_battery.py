"""What every variant must do on every architecture. Adding a file to `variants/` adds its tests."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers as hf

from custom_attention import Variant, attach, attached, detach, prove, registry, variant_parameters
from custom_attention.runtime.dispatch import observed
from tests.custom_attention.conftest import EPS, arms, attach_where_possible, changes_nothing, is_explicit
from tests.custom_attention.models import (
    CAUSAL,
    ENCODER_DECODER,
    GENERATING,
    logits,
    nudge,
    padded,
    tiny,
    unpadded,
)

CLOSE = {"rtol": 0, "atol": 2000 * EPS}  # two orders of summation of outputs of size about 10
GREEDY = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
generating = pytest.mark.parametrize("family", GENERATING, indirect=True)


def nudged(model):
    nudge(variant_parameters(model).values())
    return model


def prompt(inputs):
    return {name: value for name, value in inputs.items() if name in ("input_ids", "attention_mask")}


def test_it_equals_stock_where_it_says_so_and_reaches_every_site(swapped, family):
    proof = prove(swapped, padded(family).inputs)
    assert proof.passed, proof.sentence
    assert proof.reached == proof.expected > 0
    if proof.starts_as_stock:
        assert proof.max_difference <= proof.bound
    else:
        assert proof.max_difference > 20 * EPS


def test_every_parameter_changes_the_output_at_every_site(swapped, family):
    nudged(swapped)
    inputs, start = padded(family).inputs, logits(swapped, padded(family).inputs)
    for name, parameter in variant_parameters(swapped).items():
        kept = parameter.detach().clone()
        nudge([parameter], seed=4, size=1.0)
        assert (logits(swapped, inputs) - start).abs().max() > 20 * EPS, name
        with torch.no_grad():
            parameter.copy_(kept)


def test_every_parameter_gets_a_gradient_at_the_start_and_elsewhere(swapped, family):
    """At the start a factor of 0 may leave a parameter without gradient, but not all parameters of a site."""
    for start in (True, False):
        swapped.zero_grad()
        swapped(**padded(family).inputs).logits.square().sum().backward()
        gradients = {name: p.grad for name, p in variant_parameters(swapped).items()}
        assert all(g is not None and g.isfinite().all() for g in gradients.values())  # None would stop DDP
        alive = {name for name, g in gradients.items() if g.abs().max() > 0}
        assert {n.rpartition(".")[0] for n in alive} == {n.rpartition(".")[0] for n in gradients}
        assert start or alive == set(gradients)
        nudged(swapped)


def test_padding_is_invisible(swapped, family):
    batch, model = padded(family), nudged(swapped)
    together = logits(model, batch.inputs)
    for row in range(len(batch.lengths)):
        alone = logits(model, batch.alone(row))[0]
        torch.testing.assert_close(batch.real(together, row), alone, **CLOSE)


@generating
def test_a_causal_stack_sees_nothing_ahead(swapped, family):
    model, inputs = nudged(swapped), unpadded(family)
    before = logits(model, inputs)
    for masked in (False, True):
        changed = dict(inputs)
        name = "decoder_input_ids" if family in ENCODER_DECODER else "input_ids"
        changed[name] = inputs[name].clone()
        changed[name][:, 3:] = 44
        if masked and family in CAUSAL:
            changed["attention_mask"] = torch.ones_like(inputs["input_ids"])
        after = logits(model, changed)
        torch.testing.assert_close(after[:, :3], before[:, :3], **CLOSE)
        assert (after[:, 3:] - before[:, 3:]).abs().max() > 1e-3


@generating
def test_cached_decoding_equals_the_full_forward(swapped, family):
    model, inputs = nudged(swapped), padded(family).inputs
    asked = {**prompt(inputs), **GREEDY, "return_dict_in_generate": True, "output_logits": True}
    with_cache, without = model.generate(**asked, use_cache=True), model.generate(**asked, use_cache=False)
    assert torch.equal(with_cache.sequences, without.sequences)
    torch.testing.assert_close(torch.stack(with_cache.logits), torch.stack(without.logits), **CLOSE)


@generating
def test_beam_search_does_not_depend_on_the_cache(swapped, family):
    model, inputs = nudged(swapped), padded(family).inputs
    asked = {**prompt(inputs), **GREEDY, "num_beams": 3}
    cached, plain = (model.generate(**asked, use_cache=use) for use in (True, False))
    assert torch.equal(cached, plain)


@pytest.mark.parametrize("family", CAUSAL, indirect=True)
def test_a_static_cache_gives_the_same_tokens(swapped, family):
    model, inputs = nudged(swapped), padded(family).inputs
    for asked in (prompt(inputs), {"input_ids": unpadded(family)["input_ids"]}):
        asked = {**asked, **GREEDY}
        static = model.generate(**asked, cache_implementation="static", disable_compile=True)
        assert torch.equal(static, model.generate(**asked))


def test_rows_without_any_visible_key_stay_finite(swapped, family):
    model, inputs = nudged(swapped), dict(padded(family).inputs)
    inputs["attention_mask"] = inputs["attention_mask"].clone()
    inputs["attention_mask"][1] = 0
    output = model(**inputs).logits
    assert output.isfinite().all()
    output.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in variant_parameters(model).values())


def test_dropout_acts_in_training_only(swapped, family):
    model, inputs = nudged(swapped), padded(family).inputs
    assert torch.equal(logits(model, inputs), logits(model, inputs))
    attention_dropouts = {child for site, _ in attached(model) for child in site.children()}
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout) and module not in attention_dropouts:
            module.p = 0.0
    model.train()
    assert not torch.equal(logits(model, inputs), logits(model, inputs))


def test_bfloat16_is_close_to_float32(swapped, family):
    model, inputs = nudged(swapped), padded(family).inputs
    wide, narrow = logits(model, inputs), logits(copy.deepcopy(model).to(torch.bfloat16), inputs).float()
    stock = tiny(family)
    stock_error = logits(copy.deepcopy(stock).to(torch.bfloat16), inputs).float() - logits(stock, inputs)
    error = (narrow - wide).pow(2).mean().sqrt()
    assert error < 4 * stock_error.pow(2).mean().sqrt() + 0.05


def test_a_state_dict_restores_the_function(swapped, arm, family):
    model, inputs = nudged(swapped), padded(family).inputs
    again = attach_where_possible(tiny(family), arm, family)
    missing, unexpected = again.load_state_dict(model.state_dict())
    assert not missing
    assert not unexpected
    assert torch.equal(logits(again, inputs), logits(model, inputs))
    assert torch.equal(logits(copy.deepcopy(model), inputs), logits(model, inputs))


def test_gradient_checkpointing_runs_the_sites_again_and_changes_no_gradient(swapped, family):
    """With dropout, which draws the same numbers in the second run."""
    model, inputs = nudged(swapped).train(), padded(family).inputs
    gradients, calls = [], []
    for checkpointing in (False, True):
        if checkpointing:
            model.activation_checkpointing_enable()
        model.zero_grad()
        torch.manual_seed(6)
        with observed(lambda module, *_: calls.append(module)):
            model(**inputs, use_cache=False).logits.square().mean().backward()
        parameters = variant_parameters(model) or dict(model.named_parameters())
        gradients.append([p.grad.clone() for p in parameters.values() if p.grad is not None])
    assert len(calls) == 3 * len(attached(model))
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)


def test_detach_gives_the_stock_model_back(swapped, family):
    inputs, stock = padded(family).inputs, tiny(family)
    detach(swapped)
    assert not variant_parameters(swapped)
    torch.testing.assert_close(logits(swapped, inputs), logits(stock, inputs), **CLOSE)
    names = [m.config._attn_implementation for m in swapped.modules() if hasattr(m, "config")]
    assert set(names) == {"sdpa"}


@pytest.mark.parametrize("explicit", [False, True], ids=["kernel", "explicit"])
def test_all_variants_that_start_as_stock_do_so_together(family, explicit):
    """In one list, with every option, at self-attention, where all are accepted."""
    possible = [arm for arm in arms() if not changes_nothing(arm, family)]
    classes = [(arm, registry.find(next(iter(arm)))) for arm in possible]
    neutral = [(arm, cls) for arm, cls in classes if cls.starts_as_stock is True]
    normalizers = [arm for arm, cls in neutral if cls.normalize is not Variant.normalize]
    chosen = [arm for arm, _ in neutral if explicit or not is_explicit(arm)]
    for normalizer in normalizers[:1] if explicit else ():
        chosen = [arm for arm in chosen if arm not in normalizers or arm is normalizer]
    assert len(chosen) >= 12
    model = attach(tiny(family), chosen, where={"kind": "self"})
    proof = prove(model, padded(family).inputs)
    assert proof.passed, proof.sentence
    assert proof.starts_as_stock
    assert proof.exact or explicit


def test_the_families_are_of_the_declared_kinds(family):
    model = attach(tiny(family), [])
    kinds = {stack.site.is_cross for _, stack in attached(model)}
    assert kinds == ({True, False} if family in ENCODER_DECODER else {False})
    assert isinstance(model, hf.PreTrainedModel)
