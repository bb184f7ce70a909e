"""Folding gives a plain stock model of the same function, or is refused and changes nothing."""

from __future__ import annotations

import sys

import pytest
import torch
import transformers as hf

from custom_attention import Variant, VariantError, attach, attached, fold, variant_parameters
from tests.custom_attention.models import logits, nudge, padded, tiny

FOLDABLE = [
    "temperature",
    {"temperature": {"per": "model"}},
    "gain",
    {"gain": {"per": "channel"}},
    {"constant_scale": {"of": "dim"}},
    {"constant_scale": {"of": "layer", "mode": "compensated"}},
    [
        {"temperature": {"per": "layer"}},
        "gain",
        {"gain": {"per": "channel"}},
        {"constant_scale": {"factor": 3.0}},
    ],
]


def trained(family: str, spec, **options):
    model = attach(tiny(family), spec, **options)
    nudge(variant_parameters(model).values())
    return model


def is_foldable(family: str, spec) -> bool:
    """DeBERTa's query weights make its position bias too, so only factors of the output fold into it."""
    return family != "deberta" or spec in ("gain", {"gain": {"per": "channel"}})


@pytest.mark.parametrize("spec", FOLDABLE, ids=str)
def test_a_folded_model_is_stock_and_computes_the_same(family, spec, tmp_path):
    if not is_foldable(family, spec):
        with pytest.raises(VariantError, match="nor make its position bias of them"):
            fold(trained(family, spec))  # a compensated factor is refused by attach already
        return
    model, batch = trained(family, spec), padded(family)
    before = logits(model, batch.inputs)
    result = fold(model)
    assert result.max_difference <= result.bound < 1e-3
    assert not attached(model)
    assert not variant_parameters(model)
    assert not any("attnlab" in name for name in model.state_dict())
    model.save_pretrained(tmp_path)
    plain = type(model).from_pretrained(tmp_path).eval()
    for row in range(len(batch.lengths)):
        ours = batch.real(before, row)
        limit = 1e-5 * max(1.0, ours.abs().max().item())
        assert (batch.real(logits(plain, batch.inputs), row) - ours).abs().max() <= limit


@pytest.mark.parametrize("mode", ["naive", "compensated"])
def test_a_dropped_factor_folds_back_into_a_model_that_has_it(mode):
    model = trained("gpt2", {"unscaled": {"mode": mode}})
    before = logits(model, padded("gpt2").inputs)
    fold(model)
    stock, after = logits(tiny("gpt2"), padded("gpt2").inputs), logits(model, padded("gpt2").inputs)
    real = padded("gpt2").inputs["attention_mask"].bool()
    torch.testing.assert_close(after[real], before[real], rtol=0, atol=1e-4)
    same = (after[real] - stock[real]).abs().max() < 1e-4
    assert same == (mode == "compensated")


def test_only_the_chosen_sites_are_folded():
    model, stock = trained("bart", "temperature", where={"kind": "cross"}), tiny("bart")
    fold(model)
    changed = {k for (k, p), q in zip(model.named_parameters(), stock.parameters()) if not torch.equal(p, q)}
    assert {name.split(".")[4] for name in changed} == {"encoder_attn"}


@pytest.mark.parametrize("spec", ["gate", ["temperature", "gate"], "softcap", "log_length", "sink"])
def test_a_variant_that_depends_on_its_input_is_refused_and_stays_attached(spec):
    model = trained("bert", spec)
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(VariantError, match="depends on the input"):
        fold(model)
    assert attached(model)
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())


def test_a_factor_that_no_weight_can_hold_is_refused_and_weights_are_restored():
    sizes = {"vocab_size": 61, "hidden_size": 40, "num_hidden_layers": 1, "intermediate_size": 37}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 10}
    model = attach(hf.Qwen3ForCausalLM(hf.Qwen3Config(**sizes, **heads)).eval(), ["temperature", "gain"])
    nudge(variant_parameters(model).values())
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(VariantError, match="linear map"):
        fold(model)
    assert attached(model)
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())


def test_weights_are_restored_if_the_result_differs(monkeypatch):
    model = trained("bert", "temperature")
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    monkeypatch.setattr(sys.modules["custom_attention.fold"], "FLOAT32_BOUND", 0.0)
    with pytest.raises(VariantError, match="would change an output"):
        fold(model)
    assert attached(model)
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())


def test_a_single_head_is_not_confused_with_input_columns():
    """With a single head a block of input columns looks like a head."""
    sizes = {"vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 1, "intermediate_size": 37}
    config = hf.LlamaConfig(**sizes, num_attention_heads=1, num_key_value_heads=1, head_dim=8)
    torch.manual_seed(0)
    model = attach(hf.LlamaForCausalLM(config).eval(), ["temperature", {"gain": {"per": "channel"}}])
    nudge(variant_parameters(model).values())
    ids = {"input_ids": torch.arange(9)[None] + 5}
    before = logits(model, ids)
    fold(model)
    torch.testing.assert_close(logits(model, ids), before, rtol=0, atol=1e-6)


def test_bfloat16_weights_fold_to_their_own_precision():
    model = attach(tiny("llama").to(torch.bfloat16), ["temperature", "gain"])
    nudge(variant_parameters(model).values())
    before = logits(model, padded("llama").inputs)
    result = fold(model)
    assert result.max_difference <= result.bound
    assert model.dtype == torch.bfloat16
    assert before.dtype == torch.bfloat16


class ByLength(Variant):
    """A scale that depends on the input."""

    starts_as_stock = False

    def scale(self, scale, call):
        return scale / call.query.shape[2]


def test_a_scale_that_reads_its_call_is_not_folded():
    model = attach(tiny("bert"), f"{__name__}:ByLength")
    with pytest.raises(VariantError, match=r"reads call\.query"):
        fold(model)
    assert attached(model)
