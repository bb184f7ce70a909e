"""Dropout outside attention is the same in every arm, whatever an arm draws inside."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
import transformers as hf

from custom_attention import attach, attached, site_dropout, variant_parameters
from custom_attention.variant import Variant
from tests.custom_attention.models import nudge, padded, tiny


class Gambler(Variant):
    """Stock attention that draws random numbers inside."""

    def output(self, output, call):
        torch.rand(17)
        return output


class Recorder(Variant):
    """Notes the next number of the random stream at each call."""

    draws: ClassVar[list] = []

    def output(self, output, call):
        self.draws.append(torch.rand(()).item())
        return output


def outside_masks(model, inputs, seed: int) -> list[torch.Tensor]:
    """Where each dropout layer outside attention dropped, in one training forward."""
    inside = {child for site, _ in attached(model) for child in site.children()}
    masks, handles = [], []
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout) and module not in inside:
            module.p = 0.5
            handles.append(module.register_forward_hook(lambda m, args, out: masks.append(out == 0)))
    with site_dropout(seed):
        model.train()(**inputs)
    for handle in handles:
        handle.remove()
    return masks


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"], indirect=True)
def test_arms_that_draw_differently_drop_the_same_outside_attention(family):
    inputs = padded(family).inputs
    stock, gambler = attach(tiny(family), []), attach(tiny(family), f"{__name__}:Gambler")
    one, two = (outside_masks(model, inputs, 3) for model in (stock, gambler))
    assert len(one) == len(two) > 2
    assert all(torch.equal(a, b) for a, b in zip(one, two))
    assert not all(torch.equal(a, b) for a, b in zip(one, outside_masks(stock, inputs, 4)))


def test_without_site_dropout_arms_drop_differently():
    def run(model):
        torch.manual_seed(3)
        return model.train()(**padded("bert").inputs).logits

    assert not torch.equal(run(attach(tiny("bert"), [])), run(attach(tiny("bert"), f"{__name__}:Gambler")))


@pytest.mark.parametrize("spec", ["temperature", "gate"])
def test_a_neutral_arm_trains_on_exactly_the_outputs_of_stock(family, spec):
    outputs = []
    for arm in ([], spec):
        model = attach(tiny(family), arm).train()
        with site_dropout(5):
            outputs.append(model(**padded(family).inputs).logits)
    assert torch.equal(*outputs)


def test_a_layer_that_is_called_again_draws_again():
    config = hf.AlbertConfig(
        vocab_size=61,
        embedding_size=16,
        hidden_size=30,
        num_hidden_layers=3,
        num_attention_heads=3,
        intermediate_size=37,
        attention_probs_dropout_prob=0.5,
    )
    model = attach(hf.AlbertModel(config), f"{__name__}:Recorder")
    Recorder.draws.clear()
    with site_dropout(1):
        model.train()(torch.full((2, 5), 9))
    assert len(set(Recorder.draws)) == len(Recorder.draws) == 3


def test_checkpointed_layers_draw_the_same_masks_when_they_run_again():
    gradients = []
    for checkpointing in (False, True):
        model = attach(tiny("gpt2"), "gate")
        nudge(variant_parameters(model).values())
        if checkpointing:
            model.activation_checkpointing_enable()
        with site_dropout(2):
            loss = model.train()(**padded("gpt2").inputs, use_cache=False).logits.square().mean()
            loss.backward()
        gradients.append([p.grad for p in variant_parameters(model).values()])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-8)


def test_evaluation_draws_nothing():
    model = attach(tiny("gpt2"), "gate")
    with site_dropout(1):
        state = torch.get_rng_state()
        model(**padded("gpt2").inputs)
        assert torch.equal(torch.get_rng_state(), state)
