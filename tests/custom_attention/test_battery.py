"""What every variant must do on every architecture. Adding a file to `variants/` adds its tests."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers as hf

from custom_attention import Variant, attach, attached, detach, prove, registry, variant_parameters
from custom_attention.battery import checks
from custom_attention.battery.checks import GREEDY, nudged, prompt
from tests.custom_attention.conftest import (
    EPS,
    arms,
    attach_where_possible,
    is_explicit,
    is_refused,
    replaces_kernel,
)
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

CLOSE = {"rtol": 0, "atol": checks.CLOSE}
generating = pytest.mark.parametrize("family", GENERATING, indirect=True)


def test_it_equals_stock_where_it_says_so_and_reaches_every_site(swapped, family):
    checks.equals_stock(swapped, family)


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
    checks.every_parameter_gets_a_gradient(swapped, family)


def test_padding_is_invisible(swapped, family):
    checks.padding_is_invisible(swapped, family)


@generating
def test_a_causal_stack_sees_nothing_ahead(swapped, family):
    checks.nothing_ahead_is_seen(swapped, family)


@generating
def test_cached_decoding_equals_the_full_forward(swapped, family):
    checks.cached_decoding_equals_the_full_forward(swapped, family)


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
    draws = [logits(model, inputs) for _ in range(5)]  # of few heads, two may be dropped alike
    assert any(not torch.equal(draws[0], other) for other in draws)


def test_bfloat16_is_close_to_float32(swapped, family):
    checks.bfloat16_is_close_to_float32(swapped, family)


def test_a_state_dict_restores_the_function(swapped, arm, family):
    model, inputs = nudged(swapped), padded(family).inputs
    again = attach_where_possible(tiny(family), arm, family)
    missing, unexpected = again.load_state_dict(model.state_dict())
    assert not missing
    assert not unexpected
    assert torch.equal(logits(again, inputs), logits(model, inputs))
    assert torch.equal(logits(copy.deepcopy(model), inputs), logits(model, inputs))


def test_gradient_checkpointing_runs_the_sites_again_and_changes_no_gradient(swapped, family):
    checks.checkpointing_changes_no_gradient(swapped, family)


def test_detach_gives_the_stock_model_back(swapped, family):
    inputs, stock = padded(family).inputs, tiny(family)
    detach(swapped)
    assert not variant_parameters(swapped)
    torch.testing.assert_close(logits(swapped, inputs), logits(stock, inputs), **CLOSE)
    names = [m.config._attn_implementation for m in swapped.modules() if hasattr(m, "config")]
    assert set(names) == {stock.config._attn_implementation}


@pytest.mark.parametrize("explicit", [False, True], ids=["kernel", "explicit"])
def test_all_variants_that_start_as_stock_do_so_together(family, explicit):
    """In one list, with every option, at self-attention, where all are accepted."""
    possible = [arm for arm in arms() if not is_refused(arm, family)]
    classes = [(arm, registry.find(next(iter(arm)))) for arm in possible]
    neutral = [(arm, cls) for arm, cls in classes if cls.starts_as_stock is True]
    normalizers = [arm for arm, cls in neutral if cls.normalize is not Variant.normalize]
    chosen = [arm for arm, _ in neutral if explicit or not is_explicit(arm)]
    for normalizer in normalizers[:1] if explicit else ():
        chosen = [arm for arm in chosen if arm not in normalizers or arm is normalizer]
        chosen = [arm for arm in chosen if not replaces_kernel(arm)]
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
