"""States of earlier sites: those of the same forward, with gradient checkpointing too, or a refusal."""

from __future__ import annotations

import pytest
import torch
import transformers as hf

from custom_attention import VariantError, attach, attached
from custom_attention.battery.checks import nudged
from tests.custom_attention.models import logits, padded, tiny
from tests.custom_attention.test_hooks import DoubleValue, with_variant


def test_a_value_residual_is_the_mean_of_both_values_written_out(family):
    """Beside a forward in which a hook on the kernel puts the mean in."""
    model, inputs = attach(tiny(family), {"value_residual": {"form": "fixed"}}), padded(family).inputs
    assert not torch.equal(logits(model, inputs), logits(tiny(family), inputs))
    first = {}

    def mean(self, value, call):
        key = (self.site.stack, self.site.is_cross)
        if self.site.layer == 0:
            first[key] = value
        return (value + first[key]) / 2

    other = with_variant(family, DoubleValue)
    for _, stack in attached(other):
        stack.variants[0].value = mean.__get__(stack.variants[0])
    assert torch.equal(logits(model, inputs), logits(other, inputs))


def test_two_forwards_before_one_backward_are_refused_with_checkpointing_and_right_without():
    model, inputs = nudged(attach(tiny("bert"), "value_residual")).train(), padded("bert").inputs
    alone = {name: value[:1] for name, value in inputs.items()}

    def both():
        losses = [model(**batch).logits.square().mean() for batch in (alone, inputs)]
        sum(losses).backward()

    both()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    with pytest.raises(RuntimeError, match="run the backward pass of a forward before the next"):
        both()


def test_reentrant_checkpointing_is_refused_where_it_would_cut_a_gradient():
    model = nudged(attach(tiny("gpt2"), "value_residual")).train()
    model.gradient_checkpointing_enable({"use_reentrant": True})
    embedded = model.transformer.wte(padded("gpt2").inputs["input_ids"]).detach().requires_grad_()
    with pytest.raises(VariantError, match="reentrant gradient checkpointing cuts the gradient"):
        model(inputs_embeds=embedded, use_cache=False).logits.square().mean().backward()


def test_what_a_skipped_layer_would_have_published_is_not_taken_from_the_forward_before():
    model, inputs = attach(tiny("bert"), {"value_residual": {"form": "fixed"}}), padded("bert").inputs
    logits(model, inputs)
    alone = attach(tiny("bert"), [])
    for one in (model, alone):
        del one.bert.encoder.layer[0]
    assert torch.equal(logits(model, inputs), logits(alone, inputs))


def test_a_model_of_one_attention_module_has_no_earlier_site():
    config = hf.AlbertConfig(
        vocab_size=61, embedding_size=12, hidden_size=24, num_attention_heads=3, intermediate_size=29
    )
    with pytest.raises(VariantError, match="is the only attention module of the model"):
        attach(hf.AlbertModel(config), "value_residual")


WINDOW, LENGTH, STEPS = 4, 7, 6


@pytest.mark.parametrize("kinds", ["sliding full", "full sliding", "sliding sliding"])
@pytest.mark.parametrize("form", ["learned", "fixed"])
def test_values_of_the_first_layer_are_those_of_the_same_tokens_whatever_windows_have_let_go(kinds, form):
    """A cache of Gemma keeps other tokens in a layer with a window than in one without."""
    torch.manual_seed(5)
    sizes = dict.fromkeys(("hidden_size", "intermediate_size"), 24) | {"head_dim": 6, "vocab_size": 41}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    types = [f"{kind}_attention" for kind in kinds.split()]
    config = hf.Gemma2Config(**sizes, sliding_window=WINDOW, layer_types=types, query_pre_attn_scalar=6)
    model = nudged(attach(hf.Gemma2ForCausalLM(config).eval(), {"value_residual": {"form": form}}))
    ids = torch.randint(3, 41, (3, LENGTH + STEPS))
    whole = model(ids, use_cache=False).logits
    output = model(ids[:, :LENGTH], use_cache=True)
    for place in range(LENGTH, LENGTH + STEPS):
        output = model(ids[:, place : place + 1], past_key_values=output.past_key_values, use_cache=True)
        torch.testing.assert_close(output.logits[:, 0], whole[:, place], rtol=1e-4, atol=1e-5)
