"""Position swaps beside independent ways: tables of zeros, transformers' rotary code, slopes of the paper."""

from __future__ import annotations

import pytest
import torch
import transformers as hf
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from custom_attention import VariantError, attach, attached, detach, load, save, sites
from custom_attention.runtime.dispatch import observed
from custom_attention.variants.position import slopes_of
from tests.custom_attention.models import FAMILIES, logits, padded, tiny, unpadded
from tests.custom_attention.test_published import check, run

SELF = {"kind": "self"}
WITH_TABLE = ("bert", "gpt2", "bart", "bert2bert")


def swapped(family, scheme, **options):
    return attach(tiny(family), {"position": {"scheme": scheme, **options}}, where=SELF)


def without_positions(family):
    """The stock model whose tables and biases of positions hold zeros."""
    model = tiny(family)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(
                part in name
                for part in ("position_embeddings", "wpe", "embed_positions", "relative_attention_bias")
            ):
                parameter.zero_()
    return model


@pytest.mark.parametrize("family", WITH_TABLE)
def test_no_positions_is_the_stock_model_with_a_table_of_zeros(family):
    for inputs in (padded(family).inputs, unpadded(family)):
        expected = logits(without_positions(family), inputs)
        assert torch.equal(logits(swapped(family, "none"), inputs), expected)
        assert (expected - logits(tiny(family), inputs)).abs().max() > 0.1


def test_no_positions_in_t5_is_a_bias_of_zeros():
    inputs = padded("t5").inputs
    expected = logits(without_positions("t5"), inputs)
    torch.testing.assert_close(logits(swapped("t5", "none"), inputs), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_s_own_scheme_is_exact(family):
    inputs = padded(family).inputs
    assert torch.equal(logits(swapped(family, "learned"), inputs), logits(tiny(family), inputs))


def llama_s_rotation(query, key, base=10000.0):
    """Rotate (1, heads, len, size) at places 0, 1, ... by transformers' functions; an odd channel stays."""
    size = query.shape[-1] // 2 * 2
    config = hf.LlamaConfig(hidden_size=size, num_attention_heads=1, head_dim=size)
    config.rope_parameters = {"rope_type": "default", "rope_theta": base}
    places = torch.arange(query.shape[2])[None]
    cos, sin = LlamaRotaryEmbedding(config)(query, places)
    turned = apply_rotary_pos_emb(query[..., :size], key[..., :size], cos, sin)
    return [torch.cat([new, old[..., size:]], -1) for new, old in zip(turned, (query, key))]


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("base", [10000.0, 500.0])
def test_rope_is_that_of_transformers(family, base):
    def expected(one):
        turned = llama_s_rotation(one.query[None].float(), one.key[None].float(), base)
        one.query, one.key = (states[0].double() for states in turned)
        return one.attend(one.scores(), one.value)

    check(run(family, {"position": {"scheme": "rope", "base": base}}), expected)


def test_rope_of_a_bert_is_that_of_a_model_that_rotates_by_itself():
    """BERT with zeroed positions, whose attention calls get states that transformers' functions rotated."""
    inputs, model = unpadded("bert"), attach(without_positions("bert"), [])

    def rotate(module, query, key, value, mask, scaling, kwargs):
        query, key = llama_s_rotation(query, key)
        output = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return output.transpose(1, 2)

    with observed(rotate):
        expected = logits(model, inputs)
    torch.testing.assert_close(logits(swapped("bert", "rope"), inputs), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_alibi_takes_the_paper_s_slope_times_the_distance_from_each_score(family):
    slopes = {3: [2**-4, 2**-8, 2**-2], 4: [2**-2, 2**-4, 2**-6, 2**-8]}

    def expected(one):
        scores = one.scores().clone()
        for head in range(scores.shape[0]):
            for i in range(scores.shape[1]):
                for j in range(scores.shape[2]):
                    scores[head, i, j] -= slopes[scores.shape[0]][head] * abs(i - j)
        return one.attend(scores, one.value)

    check(run(family, {"position": {"scheme": "alibi"}}), expected)


def test_the_slopes_are_the_paper_s():
    assert slopes_of(8) == [2**-power for power in range(1, 9)]  # section 3: 1/2, 1/4, ... 1/256
    assert slopes_of(12)[:8] == slopes_of(8)
    assert slopes_of(12)[8:] == slopes_of(16)[::2][:4]
    assert slopes_of(1) == [2**-8]


@pytest.mark.parametrize("scheme", ["none", "rope", "alibi"])
@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_a_saved_folder_loads_and_detaching_gives_the_stock_model(family, scheme, tmp_path):
    model, inputs = swapped(family, scheme), padded(family).inputs
    expected = logits(model, inputs)
    save(model, tmp_path)
    assert torch.equal(logits(load(tmp_path), inputs), expected)
    detach(model)
    assert torch.equal(logits(model, inputs), logits(tiny(family), inputs))
    assert not any(module._forward_hooks for module in model.modules())


def test_the_table_is_found_beside_its_own_stack():
    found = {(site.stack, site.position_table) for site in sites(tiny("bart"))}
    assert found == {(stack, f"model.{stack}.embed_positions") for stack in ("encoder", "decoder")}
    assert {site.position_table for site in sites(tiny("t5")) + sites(tiny("llama"))} == {""}


def test_what_cannot_lose_its_positions_is_refused():
    with pytest.raises(VariantError, match="neither a table of positions nor a position bias"):
        attach(tiny("llama"), "position")
    with pytest.raises(VariantError, match=r"all layers add bert\.embeddings\.position_embeddings once"):
        attach(tiny("bert"), "position", where={"layers": "1"})
    with pytest.raises(VariantError, match="cross-attention"):
        attach(tiny("bart"), "position")
    encoder = attach(
        tiny("bart"), "position", where={"kind": "self", "stack": "encoder"}
    )  # a stack of its own
    assert sum(len(stack) for _, stack in attached(encoder)) == 2
    layers = attach(tiny("t5"), "position", where={"kind": "self", "layers": "1"})  # a bias is each layer's
    assert sum(len(stack) for _, stack in attached(layers)) == 2
