"""The starts of a variant: the neutral one is the default and is stock attention; others are the paper's."""

from __future__ import annotations

import math
import typing

import pytest
import torch

from custom_attention import VariantError, attach, attached, prove, registry, variant_parameters
from tests.custom_attention.conftest import arms, own_names
from tests.custom_attention.models import padded, tiny


def starts_of(name):
    """Return whether each start of a variant is neutral; of one that states none, nothing."""
    declared = registry.find(name).starts_as_stock
    return {} if isinstance(declared, bool) else declared.get("start", {})


WITH_STARTS = [name for name in own_names() if starts_of(name)]


def first_variants(spec, family="bert"):
    return [stack.variants[0] for _, stack in attached(attach(tiny(family), spec))]


def test_some_variants_state_their_starts():
    assert {"gate", "temperature", "hidden_gate", "value_residual", "layer_scale"} <= set(WITH_STARTS)


@pytest.mark.parametrize("name", WITH_STARTS)
def test_the_default_start_is_the_neutral_one_and_every_accepted_start_is_declared(name):
    hint = typing.get_type_hints(registry.find(name).__init__)["start"]
    assert set(typing.get_args(hint)) == set(starts_of(name)) <= {"zero", "small", "paper"}
    assert [start for start, neutral in starts_of(name).items() if neutral] == ["zero"]
    assert prove(attach(tiny("bert"), name), padded("bert").inputs).exact


@pytest.mark.parametrize("name", WITH_STARTS)
def test_the_battery_tries_every_start(name):
    tried = [
        options["start"]
        for arm in arms()
        for one, options in arm.items()
        if one == name and options
        if "start" in options
    ]
    assert sorted(["zero", *tried]) == sorted(starts_of(name))


@pytest.mark.parametrize("name", WITH_STARTS)
def test_an_unknown_start_is_refused_with_those_there_are(name):
    with pytest.raises(VariantError, match=f"{name}.start: not accepted") as refusal:
        attach(tiny("bert"), {name: {"start": "warm"}})
    assert all(start in str(refusal.value) for start in starts_of(name))


@pytest.mark.parametrize(("name", "deviation"), [("gate", 0.1), ("hidden_gate", 0.02), ("temperature", 0.1)])
def test_a_small_start_is_drawn_anew_at_each_site(name, deviation):
    torch.manual_seed(2)
    spec = {name: {"start": "small"}}
    drawn = torch.cat([p.detach().flatten() for p in variant_parameters(attach(tiny("gpt2"), spec)).values()])
    drawn = drawn[drawn != 0]
    assert 0.4 * deviation < drawn.std() < 2 * deviation
    assert len(set(drawn.tolist())) == len(drawn)


def test_two_options_must_both_allow_the_neutral_start():
    neutral = {
        (form, start): first_variants({"value_residual": {"form": form, "start": start}})[1].neutral_at_start
        for form in ("learned", "fixed")
        for start in ("zero", "paper")
    }
    assert [key for key, value in neutral.items() if value] == [("learned", "zero")]


def test_the_paper_s_start_of_a_value_residual_is_the_mean_of_both_values():
    inputs = padded("t5").inputs
    learned, fixed = (
        attach(tiny("t5"), {"value_residual": options})(**inputs).logits
        for options in ({"start": "paper"}, {"form": "fixed"})
    )
    torch.testing.assert_close(learned, fixed, rtol=0, atol=1e-5)


def test_rezero_starts_without_attention_and_layer_scale_with_a_tenth():
    inputs, stock = padded("gpt2").inputs, tiny("gpt2")
    for per, factor in (("layer", 0.0), ("channel", 0.1)):
        model = attach(tiny("gpt2"), {"layer_scale": {"per": per, "start": "paper"}})
        scaled = tiny("gpt2")
        with torch.no_grad():
            for block in scaled.transformer.h:
                block.attn.c_proj.weight.mul_(factor)
                block.attn.c_proj.bias.mul_(factor)
        torch.testing.assert_close(model(**inputs).logits, scaled(**inputs).logits, rtol=0, atol=1e-4)
    assert (scaled(**inputs).logits - stock(**inputs).logits).abs().max() > 0.1


def test_lambda_starts_as_in_the_paper_at_each_layer():
    for layer, variant in enumerate(first_variants({"projected_differential": {"start": "paper"}})):
        expected = 0.8 - 0.6 * math.exp(-0.3 * layer)  # 0.2 at the first layer
        torch.testing.assert_close(variant.mix.detach().tanh(), torch.full((3, 1, 1), expected))


def test_a_gate_of_the_paper_lies_below_one_and_begins_near_a_half():
    model = attach(tiny("bert"), {"hidden_gate": {"start": "paper"}})
    [variant, *_] = [stack.variants[0] for _, stack in attached(model)]
    states = torch.randn(2, 3, 4, 10)
    gates = variant._gate(torch.randn(2, 4, variant.site.hidden_size), states)
    assert (gates - 0.5).abs().max() < 0.2
    with torch.no_grad():
        variant.weight.fill_(50.0)
        assert variant._gate(torch.ones(1, 4, variant.site.hidden_size), states[:1]).max() == 1
