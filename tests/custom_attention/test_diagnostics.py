"""Diagnostics against the matrices that `output_attentions` materialises, computed in plain float64."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch
import transformers as hf
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from custom_attention import attach, attached, detach, diagnose, diagnostics, variant_parameters
from custom_attention.runtime.dispatch import observed
from tests.custom_attention.conftest import arm_id, arms, is_explicit, is_refused
from tests.custom_attention.models import ENCODER_DECODER, ENCODERS, FAMILIES, nudge, padded, tiny

CLOSE = {"rel": 2e-4, "abs": 2e-5}  # float32 scores of size about 10, another order of summation


def matrices(family: str, inputs: dict) -> dict[tuple, torch.Tensor]:
    """(stack, layer, kind) -> weights (batch, heads, query_len, key_len) of the eager kernel."""
    model = tiny(family)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        output = model(**inputs, output_attentions=True)
    named = {
        ("encoder", "self"): output.get("encoder_attentions"),
        ("decoder", "self"): output.get("decoder_attentions"),
        ("decoder", "cross"): output.get("cross_attentions"),
    }
    if family not in ENCODER_DECODER:
        named = {("encoder" if family in ENCODERS else "decoder", "self"): output.attentions}
    return {(s, n, k): w.double() for (s, k), layers in named.items() for n, w in enumerate(layers)}


def by_hand(weights: torch.Tensor, rows: torch.Tensor, keys: torch.Tensor, causal: bool, sinks) -> dict:
    """Compute the statistics row by row; `rows` and `keys` mark real tokens."""
    found = {"entropy": [], "effective_keys": [], "sink_mass": []}
    for head in range(weights.shape[1]):
        entropy, effective, sink = [], [], []
        for example, row in rows.nonzero().tolist():
            p = weights[example, head, row]
            places = keys[example].nonzero()[:, 0].tolist()
            num_seen = sum(1 for place in places if not causal or place <= row)
            if num_seen > 1:
                entropy.append(-sum(x * math.log(x) for x in p.tolist() if x > 0) / math.log(num_seen))
            effective.append(1 / sum(x * x for x in p.tolist()))
            sink.append(sum(p[places[s]].item() for s in sinks))
        for name, values in zip(found, (entropy, effective, sink)):
            found[name].append(sum(values) / len(values))
    return found


def flat(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def with_targets(family: str) -> dict:
    """A padded batch; encoder-decoders say how long their targets are."""
    inputs = dict(padded(family).inputs)
    if family in ENCODER_DECODER:
        mask = torch.ones_like(inputs["decoder_input_ids"])
        mask[1, 3:] = 0
        inputs["decoder_attention_mask"] = mask
    return inputs


@pytest.mark.parametrize("sinks", [(0,), (0, -1)])
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "modernbert"])
def test_the_statistics_of_stock_attention_are_those_of_its_weights(family, sinks):
    inputs = with_targets(family)
    expected = matrices(family, inputs)
    records = diagnose(tiny(family), inputs, sink_tokens=sinks)
    assert len(records) == len(expected)
    source, target = inputs["attention_mask"].bool(), inputs.get("decoder_attention_mask")
    for record in records:
        site = record.site
        kind = "cross" if site.is_cross else "self"
        decoding = target is not None and site.stack == "decoder"
        rows = target.bool() if decoding else source
        keys = rows if kind == "self" else source
        hand = by_hand(expected[site.stack, site.layer, kind], rows, keys, site.is_causal, sinks)
        for name, values in hand.items():
            assert getattr(record, name) == pytest.approx(values, **CLOSE), (site.name, name)
        assert record.num_rows == int(rows.sum())
        assert record.total == pytest.approx([1.0] * site.num_heads, abs=1e-5)
        assert record.gate is None
        assert record.learned == {}


@pytest.mark.parametrize("name", ["stock", "gate"])
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_of_the_model_is_changed(family, name):
    model, inputs = tiny(family).train(), with_targets(family)
    if name != "stock":
        attach(model, name)
    before, config = flat(model), copy.deepcopy(model.config.to_dict())
    torch.manual_seed(3)
    stream = torch.get_rng_state()
    diagnose(model, inputs)
    assert torch.equal(stream, torch.get_rng_state())
    assert all(torch.equal(before[key], value) for key, value in flat(model).items())
    assert before.keys() == flat(model).keys()
    assert model.config.to_dict() == config
    assert all(module.training for module in model.modules())
    assert all(p.grad is None for p in model.parameters())
    if name != "stock":
        detach(model)
    model(**inputs)  # the model's own kernels still run


def weights_of(model, inputs) -> dict:
    """What the sites that take the explicit path return as their weights."""
    found = {}

    def take(module, query, key, value, mask, scaling, kwargs):
        output, weights = module.attnlab(module, query, key, value, mask, scaling, 0.0, kwargs)
        found[module] = weights.double()
        return output

    with torch.no_grad(), observed(take):
        model(**inputs)
    return found


@pytest.mark.parametrize("arm", [arm for arm in arms() if is_explicit(arm)], ids=arm_id)
@pytest.mark.parametrize("family", ["bert", "llama", "bart"])
def test_the_statistics_of_an_explicit_arm_are_those_of_its_weights(family, arm):
    model, inputs = attach(tiny(family), arm), with_targets(family)
    nudge(variant_parameters(model).values())
    expected = weights_of(model, inputs)
    real = inputs["attention_mask"].bool()
    for (module, _), record in zip(attached(model), diagnose(model, inputs)):
        if record.site.stack == "decoder" and family == "bart":
            continue
        weights = expected[module].transpose(1, 2)[real]  # (rows, heads, keys)
        assert record.total == pytest.approx(weights.sum(-1).mean(0).tolist(), **CLOSE)
        shares = weights.abs() / weights.abs().sum(-1, keepdim=True)
        effective = (1 / shares.square().sum(-1)).mean(0)
        assert record.effective_keys == pytest.approx(effective.tolist(), **CLOSE)


def test_blocks_change_nothing(monkeypatch):
    inputs = with_targets("bart")
    whole = [record.to_dict() for record in diagnose(attach(tiny("bart"), "talking_heads"), inputs)]
    for most in (1, 20, 100):
        monkeypatch.setattr(diagnostics, "BLOCK", most)
        parts = [record.to_dict() for record in diagnose(attach(tiny("bart"), "talking_heads"), inputs)]
        for one, other in zip(whole, parts):
            for name in ("entropy", "effective_keys", "max_score", "sink_mass", "total"):
                assert one[name] == pytest.approx(other[name], rel=1e-5), name


@pytest.fixture
def eager_scores():
    """Scores of the eager kernel: {module: (batch, heads, query_len, key_len)}."""
    found = {}

    def kernel(module, query, key, value, mask, scaling=None, dropout=0.0, position_bias=None, **_):
        repeats = query.shape[1] // key.shape[1]
        key, value = (states.repeat_interleave(repeats, 1) for states in (key, value))
        scores = query.double() @ key.double().transpose(2, 3) * scaling
        scores = scores if position_bias is None else scores + position_bias
        found[module] = scores = scores if mask is None else scores.masked_fill(mask < -1, -math.inf)
        return (scores.softmax(-1) @ value.double()).float().transpose(1, 2).contiguous(), None

    hf.AttentionInterface.register("of_a_test", kernel)
    hf.AttentionMaskInterface.register("of_a_test", ALL_MASK_ATTENTION_FUNCTIONS["eager"])
    yield found
    for registry in (hf.AttentionInterface, hf.AttentionMaskInterface):
        del registry._global_mapping["of_a_test"]


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "deberta"])
def test_the_largest_score_is_that_of_real_rows_and_visible_keys(family, eager_scores):
    """With bias and mask, and for grouped heads."""
    inputs, model = with_targets(family), tiny(family)
    model.set_attn_implementation("of_a_test")
    with torch.no_grad():
        model(**inputs)
    by_name = {name: eager_scores.get(module) for name, module in model.named_modules()}
    source, target = inputs["attention_mask"].bool(), inputs.get("decoder_attention_mask")
    for record in diagnose(tiny(family), inputs):
        decoding = target is not None and record.site.stack == "decoder"
        rows = (target.bool() if decoding else source)[:, None, :, None]
        largest = by_name[record.site.name].masked_fill(~rows, -math.inf).amax((0, 2, 3))
        assert record.max_score == pytest.approx(largest.tolist(), rel=1e-5), record.site.name


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_the_statistics_of_a_gate_are_those_of_its_values(family):
    model, inputs = attach(tiny(family), "gate"), padded(family).inputs
    nudge(variant_parameters(model).values(), size=2.0)
    gates = {}

    def note(module, query, key, value, mask, scaling, kwargs):
        [gate] = module.attnlab
        reading = torch.einsum("bhqd,hd->bhq", query, gate.weight) / math.sqrt(query.shape[-1])
        gates[module] = 2 * torch.sigmoid(reading + gate.offset[:, None])

    with torch.no_grad(), observed(note):
        model(**inputs)
    real = inputs["attention_mask"].bool()
    for (module, _), record in zip(attached(model), diagnose(model, inputs)):
        values = gates[module].transpose(1, 2)[real].double()
        assert record.gate["mean"] == pytest.approx(values.mean(0).tolist(), rel=1e-4)
        assert record.gate["std"] == pytest.approx(values.std(0, correction=0).tolist(), rel=1e-3)
        assert record.gate["closed"] == (values < 0.1).double().mean(0).tolist()


def test_a_gain_is_a_gate_that_does_not_vary():
    model = attach(tiny("bert"), "gain")
    nudge(variant_parameters(model).values())
    for (_, stack), record in zip(attached(model), diagnose(model, padded("bert").inputs)):
        assert record.gate["mean"] == pytest.approx((1 + stack[0].excess[:, 0]).tolist(), rel=1e-5)
        assert max(record.gate["std"]) < 1e-3


def test_every_parameter_of_every_variant_is_reported(arm):
    family = "bert" if is_refused(arm, "llama") else "llama"
    model = attach(tiny(family), arm, where={"kind": "self"})
    if any(stack.replaces_kernel for _, stack in attached(model)):
        pytest.skip("it replaces the kernel, so there are no weights to report")
    nudge(variant_parameters(model).values())
    for (_, stack), record in zip(attached(model), diagnose(model, padded(family).inputs)):
        told = {key.removesuffix(".rms").partition(".")[2] for key in record.learned}
        assert told == {key for key, _ in stack[0].named_parameters()} if len(stack) else not told
        json.dumps(record.to_dict())


def test_learned_scalars_are_reported_unchanged():
    model = attach(tiny("llama"), ["temperature", {"gain": {"per": "channel"}}])
    nudge(variant_parameters(model).values())
    for (_, stack), record in zip(attached(model), diagnose(model, padded("llama").inputs)):
        assert record.learned["temperature.log_temperature"] == stack[0].log_temperature.double().tolist()
        rms = stack[1].excess.double().square().mean(1).sqrt()
        assert record.learned["gain.excess.rms"] == pytest.approx(rms.tolist())


def test_a_sharper_softmax_has_less_entropy_and_padding_counts_for_nothing():
    inputs, model = padded("bert").inputs, tiny("bert")
    alone = [diagnose(model, padded("bert").alone(row)) for row in range(3)]
    together = diagnose(model, inputs)
    for index, record in enumerate(together):
        rows = [one[index].num_rows for one in alone]
        mixed = [
            sum(n * one[index].entropy[head] for n, one in zip(rows, alone)) / sum(rows)
            for head in range(record.site.num_heads)
        ]
        assert record.entropy == pytest.approx(mixed, rel=1e-4)
    hot = diagnose(attach(model, "unscaled"), inputs)[0]
    assert max(h - s for h, s in zip(hot.entropy, together[0].entropy)) < 0
