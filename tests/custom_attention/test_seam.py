"""Errors between transformers and the dispatcher that would change results silently, one test each."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch
import transformers as hf

from custom_attention import VariantError, attach, attached, detach, prove, sites, variant_parameters
from custom_attention.runtime.dispatch import NAMES, attention
from custom_attention.variant import Variant
from tests.custom_attention.conftest import EPS, attach_where_possible
from tests.custom_attention.models import ENCODER_DECODER, ENCODERS, FAMILIES, logits, padded, tiny


class Plain(Variant):
    """Stock attention on the explicit path."""

    def scores(self, scores, call):
        return scores


class Wrong(Variant):
    """Claims to start as stock and does not."""

    def output(self, output, call):
        return output * 1.001


def on_kernel(family: str, kernel: str):
    model = tiny(family)
    model.set_attn_implementation(kernel)
    if model.config._attn_implementation != kernel:
        pytest.skip("DeBERTa has one kernel, its own")
    return model


PLAIN, WRONG = f"{__name__}:Plain", f"{__name__}:Wrong"


def test_both_registries_have_the_names_of_the_kernels():
    """Without the name in the mask registry, causality and padding are silently ignored."""
    from transformers import AttentionInterface, AttentionMaskInterface

    for kernel, name in NAMES.items():
        assert AttentionInterface()[name] is attention
        assert AttentionMaskInterface()[name] is AttentionMaskInterface()[kernel]


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_the_stock_control_is_bit_exact_with_padding(family, kernel):
    model = on_kernel(family, kernel)
    inputs = padded(family).inputs
    before = logits(model, inputs)
    attach(model, [])
    assert torch.equal(logits(model, inputs), before)
    detach(model)
    assert torch.equal(logits(model, inputs), before)
    assert {m.config._attn_implementation for m in model.modules() if hasattr(m, "config")} == {kernel}


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_the_explicit_path_is_stock_to_rounding_with_masks_biases_and_grouped_heads(family, kernel):
    model = attach(on_kernel(family, kernel), PLAIN)
    proof = prove(model, padded(family).inputs)
    assert proof.passed, proof.sentence
    assert 0 < proof.bound < 1e-3


class Sloped(Variant):
    """Prefers late keys by a fixed bias."""

    def position_bias(self, bias, call):
        slope = torch.linspace(-1, 1, call.key.shape[2])[None, None, None]
        return slope if bias is None else bias + slope


def test_a_position_bias_reaches_kernels_that_do_not_know_the_argument(family):
    """An eager function without this argument would ignore it among its keyword arguments."""
    inputs, outputs = padded(family).inputs, []
    for kernel in ("sdpa", "eager"):
        model = on_kernel(family, kernel)
        before = logits(model, inputs)
        outputs.append(logits(attach(model, f"{__name__}:Sloped"), inputs))
        assert (outputs[-1] - before).abs().max() > 1e-3
    batch = padded(family)
    for row in range(len(batch.lengths)):
        one, two = (batch.real(output, row) for output in outputs)
        torch.testing.assert_close(one, two, rtol=0, atol=2000 * EPS)


def test_a_variant_that_does_not_start_as_declared_is_found(family):
    proof = prove(attach(tiny(family), WRONG), padded(family).inputs)
    assert proof.starts_as_stock
    assert not proof.passed
    assert "the swap changed the model" in proof.sentence


def test_prove_leaves_modes_random_stream_weights_and_gradients_alone():
    model = attach(tiny("gpt2"), {"unscaled": {"mode": "compensated"}}).train()
    model.transformer.h[1].eval()
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    prove(model, padded("gpt2").inputs)
    assert torch.equal(torch.rand(3), expected)
    assert model.training
    assert model.transformer.h[0].training
    assert not model.transformer.h[1].training
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())
    assert all(p.grad is None for p in model.parameters())


def test_a_model_that_draws_in_evaluation_is_compared_with_itself():
    """A masked autoencoder hides other patches in every forward."""
    config = hf.ViTMAEConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=37,
        image_size=24,
        patch_size=8,
    )
    model = attach(hf.ViTMAEModel(config).eval(), "gate")
    proof = prove(model, {"pixel_values": torch.randn(2, 3, 24, 24)})
    assert proof.exact, proof.sentence


def test_every_attention_module_of_both_stacks_is_reached(family):
    found = sites(tiny(family))
    expected = 6 if family in ENCODER_DECODER else 2
    assert [site.index for site in found] == list(range(expected))
    assert all(site.num_sites == expected for site in found)
    stacks = [(site.stack, site.layer, site.is_cross, site.is_causal) for site in found]
    encoder = [("encoder", layer, False, False) for layer in (0, 1)]
    self_only = [("decoder", layer, False, True) for layer in (0, 1)]
    cross = [("decoder", layer, True, False) for layer in (0, 1)]
    decoder = [site for pair in zip(self_only, cross) for site in pair]
    if family in ENCODER_DECODER:
        assert stacks == encoder + decoder
    else:
        assert stacks == (encoder if family in ENCODERS else self_only)


def test_sites_have_the_sizes_of_their_model():
    t5, llama, bert2bert = (sites(tiny(family)) for family in ("t5", "llama", "bert2bert"))
    assert {(s.num_heads, s.num_key_heads, s.head_dim, s.scale) for s in t5} == {(3, 3, 6, 1.0)}
    assert {(s.num_heads, s.num_key_heads, s.head_dim, s.scale) for s in llama} == {(4, 2, 10, 10**-0.5)}
    assert {s.name.split(".")[-2] for s in bert2bert if s.is_cross} == {"crossattention"}


def test_cross_attention_is_recognised_when_lengths_are_equal():
    """Shapes are not enough: source and target can have the same length."""
    model = tiny("bart")
    example = {"input_ids": torch.full((2, 6), 9), "decoder_input_ids": torch.full((2, 6), 9)}
    assert [s.is_cross for s in sites(model, example)] == [False, False, False, True, False, True]


def test_a_module_that_takes_query_key_and_value_apart_is_self_attention():
    """CTRL's gets one tensor three times, values first."""
    config = hf.CTRLConfig(vocab_size=61, n_embd=32, n_layer=2, n_head=4, dff=37, n_positions=40)
    found = [(site.is_cross, site.stack) for site in sites(hf.CTRLLMHeadModel(config).eval())]
    assert found == [(False, "decoder")] * 2


def test_probing_leaves_no_trace():
    model = tiny("t5").train()
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    sites(model)
    assert torch.equal(torch.rand(2), expected)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    "build",
    [
        lambda: hf.BloomForCausalLM(hf.BloomConfig(vocab_size=61, hidden_size=32, n_layer=1, n_head=4)),
        lambda: hf.GPTNeoForCausalLM(
            hf.GPTNeoConfig(
                vocab_size=61,
                hidden_size=32,
                num_layers=2,
                num_heads=4,
                attention_types=[[["global", "local"], 1]],
            )
        ),
        lambda: hf.LongformerModel(
            hf.LongformerConfig(
                vocab_size=61,
                hidden_size=32,
                num_hidden_layers=1,
                num_attention_heads=4,
                intermediate_size=37,
                attention_window=[4],
            )
        ),
    ],
    ids=["bloom", "gpt-neo", "longformer"],
)
def test_a_model_that_does_not_dispatch_is_refused_by_name(build):
    model = build()
    with pytest.raises(VariantError, match=f"{type(model).__name__}.*does not go through"):
        attach(model, "gate")
    assert model.config._attn_implementation not in NAMES.values()


@pytest.mark.parametrize("kernel", ["flash_attention_2", "flex_attention", "paged|eager"])
def test_kernels_that_were_not_measured_are_refused_by_name(kernel):
    model = tiny("llama")
    model.config._attn_implementation_internal = kernel
    with pytest.raises(VariantError, match=kernel.replace("|", r"\|")):
        attach(model, "gate")
    assert model.config._attn_implementation == kernel


def test_config_json_never_names_the_real_kernel_and_keeps_an_attached_model_from_loading_as_stock(
    family, tmp_path
):
    model = attach(tiny(family), "gate")
    model.config.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    assert values["attn_implementation"] == NAMES[tiny(family).config._attn_implementation]
    detach(model)
    model.config.save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text()
    assert "attnlab" not in text
    assert "attn_implementation" not in text


def test_parameter_names_avoid_what_loaders_and_optimizers_parse(arm):
    names = variant_parameters(attach_where_possible(tiny("bert"), arm, "bert"))
    for name in names:
        own = name.split(".attnlab.")[1]
        assert not any(word in own for word in ("gamma", "beta", "bias", "_norm", "LayerNorm")), name


def test_a_copy_and_a_pickle_hold_their_own_parameters(family):
    model = attach(tiny(family), "gate")
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(logits(other, padded(family).inputs), logits(model, padded(family).inputs))
        for one, two in zip(
            variant_parameters(model).values(), variant_parameters(other).values(), strict=True
        ):
            assert one is not two
        with torch.no_grad():
            for parameter in variant_parameters(other).values():
                parameter.add_(1.0)
        assert all(p.abs().max() == 0 for p in variant_parameters(model).values())


def test_a_module_that_the_probe_missed_raises_instead_of_running_as_stock():
    config = hf.BertConfig(
        vocab_size=61,
        hidden_size=30,
        num_hidden_layers=1,
        num_attention_heads=3,
        intermediate_size=37,
        is_decoder=True,
        add_cross_attention=True,
    )
    model = hf.BertLMHeadModel(config).eval()
    alone = {"input_ids": torch.full((2, 5), 9)}
    attach(model, "gate", example=alone)
    with pytest.raises(ValueError, match="example="):
        model(**alone, encoder_hidden_states=torch.randn(2, 4, 30))
    detach(model)
    attach(model, "gate")  # made up with encoder states
    proof = prove(model, alone)
    assert (proof.reached, proof.expected, proof.passed) == (1, 2, False)


def test_a_shared_layer_is_one_site():
    config = hf.AlbertConfig(
        vocab_size=61,
        embedding_size=16,
        hidden_size=30,
        num_hidden_layers=3,
        num_attention_heads=3,
        intermediate_size=37,
    )
    model = attach(hf.AlbertModel(config).eval(), "gate")
    assert len(sites(model)) == 1
    assert prove(model, {"input_ids": torch.full((2, 5), 9)}).passed


def test_the_explicit_path_returns_weights_on_request():
    model, inputs = attach(tiny("bert"), PLAIN), padded("bert").inputs
    eager = tiny("bert")
    eager.set_attn_implementation("eager")
    ours = model(**inputs, output_attentions=True).attentions
    theirs = eager(**inputs, output_attentions=True).attentions
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one[0], two[0], rtol=0, atol=50 * EPS)


def test_all_families_are_measured():
    assert len(FAMILIES) == 8
    assert all(len(attached(attach(tiny(family), "stock"))) in (2, 6) for family in FAMILIES)
