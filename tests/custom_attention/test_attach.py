"""Attaching: where, options, lists, sharing, compensation, and what is refused."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
import transformers as hf

from custom_attention import (
    VariantError,
    attach,
    attached,
    detach,
    prove,
    registry,
    sites,
    variant_parameters,
)
from custom_attention.head_weights import head_blocks
from custom_attention.sites import probe
from custom_attention.variant import Site, Variant
from tests.custom_attention.conftest import arm_id, arms, attach_where_possible, is_refused
from tests.custom_attention.models import logits, nudge, padded, tiny

COMPENSATED = {"unscaled": {"mode": "compensated"}}


def carrying(model) -> list[str]:
    return [stack.site.name for _, stack in attached(model) if len(stack)]


def names(model, **conditions) -> list[str]:
    return [s.name for s in sites(model) if all(getattr(s, k) == v for k, v in conditions.items())]


@pytest.mark.parametrize(
    ("where", "conditions"),
    [
        (None, {}),
        ({"kind": "all", "stack": "all", "layers": None}, {}),
        ({"kind": "self"}, {"is_cross": False}),
        ({"kind": "cross"}, {"is_cross": True}),
        ({"stack": "encoder"}, {"stack": "encoder"}),
        (
            {"kind": "self", "stack": "decoder", "layers": "1"},
            {"is_cross": False, "stack": "decoder", "layer": 1},
        ),
        (SimpleNamespace(kind="cross", stack="all", layers="0"), {"is_cross": True, "layer": 0}),
        ({"layers": "0-1,7"}, {}),
    ],
)
def test_where_selects_sites_and_all_others_stay_stock(where, conditions):
    model = tiny("t5")
    expected = names(model, **conditions)
    attach(model, "gate", where=where)
    assert carrying(model) == expected
    assert len(attached(model)) == 6
    assert prove(model, padded("t5").inputs).expected == len(expected)


def test_a_where_that_matches_nothing_names_what_exists():
    with pytest.raises(VariantError, match=r"decoder self-attention in layers 0-1"):
        attach(tiny("gpt2"), "gate", where={"kind": "cross"})
    with pytest.raises(VariantError, match=r"layers.*9"):
        attach(tiny("gpt2"), "gate", where={"layers": "9"})


@pytest.mark.parametrize("where", [{"layers": "1-"}, {"layers": "a"}, {"kind": "both"}, {"stack": "top"}])
def test_a_where_with_wrong_values_is_refused(where):
    with pytest.raises(VariantError, match=r"where\."):
        attach(tiny("gpt2"), "gate", where=where)


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("gaet", "did you mean 'gate'"),
        ({"temperature": {"pre": "head"}}, "did you mean 'per'"),
        ({"temperature": {"per": "token"}}, "one of head, layer, model"),
        ({"softcap": {"cap": "large"}}, "softcap.cap"),
        ({"softcap": {"cap": True}}, "softcap.cap"),
        ({"softcap": {"cap": -1}}, "above 0"),
        ({"differential": {"x": 1}}, "takes no options"),
        (17, "not a variant"),
        ("no.such.module:Gate", "cannot be imported"),
        ("custom_attention.variant:Site", "not a subclass"),
    ],
)
def test_a_wrong_spec_is_refused_before_the_model_is_touched(spec, match):
    model = tiny("bert")
    with pytest.raises(VariantError, match=match):
        attach(model, spec)
    assert not attached(model)
    assert model.config._attn_implementation == "sdpa"


def test_options_of_several_types_are_checked_item_by_item():
    class Local(Variant):
        def __init__(self, site: Site, *, layers: list[int], share: float | None = None) -> None:
            super().__init__(site)

    registry.check_options(Local, "local", {"layers": [1, 2], "share": None})
    for options in ({"layers": 3}, {"layers": ["1"]}, {"layers": [1], "share": True}):
        with pytest.raises(VariantError, match=r"local\.(layers|share): not accepted"):
            registry.check_options(Local, "local", options)


@pytest.mark.parametrize(
    "spec",
    [
        [{"temperature": {"per": "layer"}}, "gate"],
        {"temperature": {"per": "layer"}, "gate": None},
        [{"variant": "temperature", "per": "layer"}, SimpleNamespace(name="gate", options={})],
    ],
)
def test_all_spellings_of_a_list_mean_the_same(spec):
    model = attach(tiny("bert"), spec)
    kinds = [type(variant).__name__ for variant in attached(model)[0][1]]
    assert kinds == ["Temperature", "Gate"]


def test_a_second_attach_is_refused_until_detach():
    model = attach(tiny("bert"), "gate")
    with pytest.raises(VariantError, match="detach"):
        attach(model, "gate")
    attach(detach(model), "temperature")


@pytest.mark.parametrize(("per", "shapes"), [("head", [(3,)] * 6), ("layer", [(1,)] * 6), ("model", [(1,)])])
def test_a_temperature_is_shared_as_asked(per, shapes):
    model = attach(tiny("t5"), {"temperature": {"per": per}})
    parameters = variant_parameters(model)
    assert [tuple(p.shape) for p in parameters.values()] == shapes
    inputs, start = padded("t5").inputs, logits(model, padded("t5").inputs)
    nudge(parameters.values())
    assert not torch.equal(logits(model, inputs), start)
    if per == "model":
        values = {stack[0].log_temperature.item() for _, stack in attached(copy.deepcopy(model))}
        assert len(values) == 1


def test_parameters_are_float32_on_a_bfloat16_model_and_the_swap_is_exact():
    model = attach(tiny("llama").to(torch.bfloat16), ["temperature", "gate"])
    assert {p.dtype for p in variant_parameters(model).values()} == {torch.float32}
    proof = prove(model, padded("llama").inputs)
    assert proof.exact, proof.sentence


def test_a_temperature_scales_the_scores_of_its_head_alone():
    model, inputs = attach(tiny("bert"), "temperature"), padded("bert").inputs
    stock = tiny("bert")
    stock.set_attn_implementation("eager")
    with torch.no_grad():
        attached(model)[0][1][0].log_temperature[1] = 0.7
        rows = slice(10, 20)  # the second of three heads of ten
        attention = stock.bert.encoder.layer[0].attention.self
        attention.query.weight[rows] *= torch.tensor(0.7).exp()
        attention.query.bias[rows] *= torch.tensor(0.7).exp()
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(logits(model, inputs)[real], logits(stock, inputs)[real], rtol=0, atol=1e-5)


def test_unscaled_is_attention_without_the_factor():
    model, stock, inputs = attach(tiny("gpt2"), "unscaled"), tiny("gpt2"), padded("gpt2").inputs
    for block in stock.transformer.h:
        block.attn.scaling = 1.0
    assert torch.equal(logits(model, inputs), logits(stock, inputs))


def power_of_two():
    torch.manual_seed(0)
    return hf.BertModel(
        hf.BertConfig(
            vocab_size=61, hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=37
        )
    ).eval()


def test_compensation_is_bit_exact_where_the_root_of_head_dim_is_a_power_of_two():
    model = attach(power_of_two(), COMPENSATED)
    weight = model.encoder.layer[0].attention.self.query.weight
    assert torch.equal(weight * 4, power_of_two().encoder.layer[0].attention.self.query.weight)
    proof = prove(model, {"input_ids": torch.full((2, 5), 9)})
    assert (proof.bound, proof.exact, proof.passed) == (0.0, True, True)
    detach(model)
    for one, two in zip(model.parameters(), power_of_two().parameters()):
        assert torch.equal(one, two)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "bart", "bert2bert"])
def test_compensation_rescales_the_queries_and_nothing_else(name):
    model, stock, inputs = attach(tiny(name), COMPENSATED), tiny(name), padded(name).inputs
    changed = [k for (k, p), q in zip(model.named_parameters(), stock.parameters()) if not torch.equal(p, q)]
    kinds = {"bert": 4, "gpt2": 4, "llama": 2, "bart": 12, "bert2bert": 12}
    assert len(changed) == kinds[name], changed  # weight and bias of each site, Llama has no biases
    proof = prove(model, inputs)
    assert proof.passed, proof.sentence
    assert proof.bound > 0
    assert all(stack[0].scale(0.3, None) == 1.0 for _, stack in attached(model))


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5", "bart", "bert2bert"])
def test_a_given_example_that_fills_a_cache_finds_the_same_weights(name):
    model, given = tiny(name), dict(padded(name).inputs)
    decoder = getattr(model, "decoder", model).config
    assert decoder.use_cache
    made_up = head_blocks(model, probe(model, given))
    assert head_blocks(model, probe(model, given), example=given) == made_up
    assert decoder.use_cache


def test_a_resumed_compensated_run_loads_its_divided_weights():
    trained = attach(tiny("gpt2"), COMPENSATED)
    nudge(trained.parameters(), size=0.01)
    resumed = attach(tiny("gpt2"), COMPENSATED)
    resumed.load_state_dict(trained.state_dict())
    inputs = padded("gpt2").inputs
    assert torch.equal(logits(resumed, inputs), logits(trained, inputs))
    before = logits(trained, inputs)
    stock = detach(resumed)
    torch.testing.assert_close(logits(stock, inputs), before, rtol=0, atol=1e-4)


def test_compensation_reaches_only_the_chosen_sites():
    model, stock = attach(tiny("bart"), COMPENSATED, where={"kind": "cross"}), tiny("bart")
    changed = {k for (k, p), q in zip(model.named_parameters(), stock.parameters()) if not torch.equal(p, q)}
    assert {name.split(".")[4] for name in changed} == {"encoder_attn"}


def test_normalised_queries_cannot_be_compensated():
    config = hf.Qwen3Config(
        vocab_size=61,
        hidden_size=40,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=10,
        intermediate_size=37,
    )
    model = hf.Qwen3ForCausalLM(config).eval()
    with pytest.raises(VariantError, match="linear map"):
        attach(model, COMPENSATED)
    assert not attached(model)


def test_head_blocks_of_a_fused_projection_are_found():
    model = tiny("gpt2")
    found = probe(model)
    for state, start in (("query", 0), ("key", 28), ("value", 56)):
        for heads in head_blocks(model, found, state).values():
            for head, blocks in enumerate(heads):
                places = {(b.parameter, b.axis, b.start, b.length) for b in blocks}
                first = start + 7 * head
                assert places == {("c_attn.weight", 1, first, 7), ("c_attn.bias", 0, first, 7)}


def test_finding_blocks_leaves_the_weights_alone():
    model, before = tiny("llama"), tiny("llama").state_dict()
    head_blocks(model, probe(model), "value")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("choice", arms(), ids=arm_id)
@pytest.mark.parametrize("name", ["bert", "t5"])
def test_a_factor_that_the_model_has_already_is_refused(choice, name):
    if is_refused(choice, name):
        with pytest.raises(VariantError, match="already"):
            attach(tiny(name), choice)
    else:
        assert attached(attach_where_possible(tiny(name), choice, name))


def test_a_model_with_its_own_softmax_takes_no_variant_that_sees_the_scores():
    sizes = {"hidden_size": 40, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 10}
    config = hf.Gemma2Config(vocab_size=61, num_hidden_layers=1, intermediate_size=37, **sizes)
    model = hf.Gemma2ForCausalLM(config).eval()
    with pytest.raises(VariantError, match=r"layers.0.self_attn: this model has its own `softcap`.*Sink"):
        attach(model, ["gate", "sink"])
    assert not attached(model)
    assert prove(attach(model, "gate"), {"input_ids": torch.full((2, 5), 9)}).exact


class ThreeHeads(Variant):
    """A gain for three heads, whatever the site has."""

    def output_gain(self):
        return torch.ones(3, 1)


def test_a_gain_for_another_number_of_heads_is_refused_with_the_shape_that_fits():
    assert prove(attach(tiny("bert"), f"{__name__}:ThreeHeads"), padded("bert").inputs).exact
    model = tiny("llama")
    with pytest.raises(
        VariantError, match=r"output_gain of ThreeHeads does not fit.*\(3, 1\).*\(4, 1\) or \(4, 10\)"
    ):
        attach(model, f"{__name__}:ThreeHeads")
    assert not attached(model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_eager_kernel_forms_no_unscaled_scores_in_16_bits(dtype):
    """float16 overflows at 65504, and unscaled scores are sqrt(d) times as large."""
    name = str(dtype).removeprefix("torch.")
    model = tiny("bert").to(dtype)
    model.set_attn_implementation("eager")
    with pytest.raises(VariantError, match=rf"scores formed in {name} by the eager kernel.*overflow.*sdpa"):
        attach(model, "unscaled")
    assert not attached(model)
    attach(detach(attach(model, "gate")).float(), "unscaled")
    model = tiny("bert").to(dtype)
    assert logits(attach(model, "unscaled"), padded("bert").inputs).isfinite().all()
