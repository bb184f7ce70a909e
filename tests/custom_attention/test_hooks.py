"""Each hook beside an independent way to the same result: other weights, another mask, what a layer reads."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
import transformers as hf
from torch import nn

from custom_attention import (
    Variant,
    VariantError,
    attach,
    attached,
    detach,
    diagnose,
    load,
    penalty,
    save,
    set_progress,
    site_dropout,
    variant_parameters,
)
from custom_attention.battery.checks import GREEDY, nudged, prompt
from custom_attention.runtime import call as runtime_call
from tests.custom_attention.conftest import EPS
from tests.custom_attention.models import ENCODER_DECODER, GENERATING, logits, padded, tiny, unpadded

HERE = __name__
CLOSE = {"rtol": 0, "atol": 2000 * EPS}
generating = pytest.mark.parametrize("family", GENERATING, indirect=True)


class DoubleValue(Variant):
    """Twice the values."""

    def value(self, value, call):
        return 2 * value


class DoubleOutput(Variant):
    """Twice the output."""

    def output(self, output, call):
        return 2 * output


class DoubleProjected(Variant):
    """Twice what W_o returns."""

    def projected(self, output, call):
        assert output.shape == (*call.query.shape[::2][:2], self.site.projected_size)
        return 2 * output


class Watch(Variant):
    """Notes the hidden states of every call."""

    def __init__(self, site):
        super().__init__(site)
        self.seen = []

    def output(self, output, call):
        self.seen.append((call.hidden.detach(), call.key_hidden.detach()))
        return output


class FirstThree(Variant):
    """Hides all keys but the first three, and notes how many are left."""

    def __init__(self, site):
        super().__init__(site)
        self.counts = []

    def mask(self, visible, call):
        return visible & (torch.arange(call.key.shape[2]) < 3)

    def query(self, query, call):
        self.counts.append(call.visible_counts())
        return query


class Uncover(Variant):
    """Claims that every key is visible."""

    def mask(self, visible, call):
        return torch.ones_like(visible)


class ByHand(Variant):
    """Softmax attention, written out in place of the kernel."""

    starts_as_stock = True

    def attend(self, call):
        query, key, value = call.states
        repeats = query.shape[1] // key.shape[1]
        key, value = (states.repeat_interleave(repeats, 1) for states in (key, value))
        scores = query @ key.mT * call.scale
        if call.position_bias is not None:
            scores = scores + call.position_bias
        return scores.masked_fill(~call.visible_keys(), torch.finfo(scores.dtype).min).softmax(-1) @ value


class DropFirstKey(Variant):
    """Drops the weight of the first key, always, in place of the model's dropout."""

    def dropout(self, weights, call):
        assert weights.dim() == 4
        return torch.cat([torch.zeros_like(weights[..., :1]), weights[..., 1:]], -1)


class HideFirstValue(Variant):
    """Sets the value of the first key to 0."""

    def value(self, value, call):
        return torch.cat([torch.zeros_like(value[:, :, :1]), value[:, :, 1:]], 2)


class NoDropout(Variant):
    """No dropout of weights."""

    def dropout_rate(self, rate, call):
        return 0.0


class Annealed(Variant):
    """Scales the output by the progress of training."""

    starts_as_stock = True

    def output(self, output, call):
        return output * (1 + call.progress)


class OwnLayer(Variant):
    """A linear layer of its own, with its own draw, on the hidden states."""

    starts_as_stock = False

    def __init__(self, site):
        super().__init__(site)
        self.layer = nn.Linear(site.hidden_size, site.num_heads)
        nn.init.constant_(self.layer.weight, 0.25)

    def output(self, output, call):
        return output * torch.sigmoid(self.layer(call.hidden)).transpose(1, 2)[..., None]


def with_variant(family, cls, **options):
    return attach(tiny(family), {f"{HERE}:{cls.__name__}": options}, where=options.pop("where", None))


def test_the_value_hook_changes_the_values_that_are_summed(family):
    inputs = padded(family).inputs
    torch.testing.assert_close(
        logits(with_variant(family, DoubleValue), inputs),
        logits(with_variant(family, DoubleOutput), inputs),
        **CLOSE,
    )


def test_projected_is_what_the_layer_after_the_heads_returns(family):
    model, doubled, inputs = with_variant(family, DoubleProjected), tiny(family), padded(family).inputs
    with torch.no_grad():
        for _, stack in attached(model):
            layer = doubled.get_submodule(stack.site.projection)
            for parameter in layer.parameters():
                parameter.mul_(2)
    torch.testing.assert_close(logits(model, inputs), logits(doubled, inputs), **CLOSE)
    detach(model)
    assert torch.equal(logits(model, inputs), logits(tiny(family), inputs))
    assert not any(module._forward_hooks for module in model.modules())


def test_a_copy_projects_with_its_own_variants():
    model, inputs = with_variant("t5", DoubleProjected), padded("t5").inputs
    copied = copy.deepcopy(model)
    detach(model)
    assert torch.equal(logits(copied, inputs), logits(with_variant("t5", DoubleProjected), inputs))


PROJECTIONS = {  # of queries and keys, below an attention module
    "bert": ("query", "key"),
    "modernbert": ("Wqkv", "Wqkv"),
    "deberta": ("query_proj", "key_proj"),
    "t5": ("q", "k"),
    "bart": ("q_proj", "k_proj"),
    "bert2bert": ("query", "key"),
    "llama": ("q_proj", "k_proj"),
    "gpt2": ("c_attn", "c_attn"),
}


def test_hidden_states_are_what_the_projections_of_a_site_read(family):
    model, read = with_variant(family, Watch), {}
    for module, stack in attached(model):
        for side, name in enumerate(PROJECTIONS[family]):
            layer = getattr(module, name)
            layer.register_forward_hook(  # DeBERTa's read its table of positions too, after the states
                lambda _, args, out, key=(stack.site.index, side): read.update({key: read.get(key, args[0])})
            )
    logits(model, padded(family).inputs)
    for _, stack in attached(model):
        for side, states in enumerate(stack.variants[0].seen[-1]):
            assert torch.equal(states, read[stack.site.index, side])
            assert states.shape[-1] == (stack.site.hidden_size, stack.site.key_hidden_size)[side]


@generating
def test_hidden_states_of_the_keys_are_kept_with_the_cache(family):
    model, asked = with_variant(family, Watch), {**prompt(padded(family).inputs), **GREEDY}
    seen = []
    for use in (True, False):
        for _, stack in attached(model):
            stack.variants[0].seen.clear()
        model.generate(**asked, use_cache=use)
        seen.append([stack.variants[0].seen[-1][1] for _, stack in attached(model)])
    for cached, full in zip(*seen):
        assert cached.shape == full.shape
        # Rows of left padding, which see no key, differ between kernels.
        real = torch.ones(full.shape[:2], dtype=torch.bool)
        if family not in ENCODER_DECODER:
            real[:, : asked["attention_mask"].shape[1]] = asked["attention_mask"].bool()
        torch.testing.assert_close(cached[real], full[real], **CLOSE)


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5"], indirect=True)
def test_a_masked_key_is_as_padding_and_is_not_counted(family, kernel):
    stock, inputs = tiny(family), unpadded(family)
    stock.set_attn_implementation(kernel)
    where = {"stack": "encoder"} if family == "t5" else None
    model = attach(copy.deepcopy(stock), f"{HERE}:FirstThree", where=where)
    shown = torch.zeros_like(inputs["input_ids"])
    shown[:, :3] = 1
    got, expected = logits(model, inputs), logits(stock, {**inputs, "attention_mask": shown})
    if family == "t5":  # its cross-attention sees all of the encoder here
        masked = {**inputs, "attention_mask": shown}
        got = model.get_encoder()(input_ids=inputs["input_ids"]).last_hidden_state
        expected = stock.get_encoder()(
            **{n: masked[n] for n in ("input_ids", "attention_mask")}
        ).last_hidden_state
    torch.testing.assert_close(got, expected, **CLOSE)
    counts = next(stack for _, stack in attached(model) if len(stack)).variants[0].counts[-1]
    assert counts.max() == 3


def test_a_mask_hook_uncovers_nothing(family):
    inputs = padded(family).inputs
    torch.testing.assert_close(
        logits(with_variant(family, Uncover), inputs), logits(tiny(family), inputs), **CLOSE
    )


def test_a_mask_of_numbers_is_refused():
    model = with_variant("bert", FirstThree)
    attached(model)[0][1].variants[0].mask = lambda visible, call: visible.float()
    with pytest.raises(ValueError, match=r"a mask hook gave torch.float32, not booleans"):
        logits(model, padded("bert").inputs)


def test_attend_replaces_the_kernel_and_gets_masks_biases_and_scale(family):
    batch = padded(family)
    model = with_variant(family, ByHand)
    got, expected = logits(model, batch.inputs), logits(tiny(family), batch.inputs)
    for row in range(len(batch.lengths)):
        torch.testing.assert_close(batch.real(got, row), batch.real(expected, row), **CLOSE)
    with pytest.raises(VariantError, match="replaces the kernel here, so there are no weights"):
        diagnose(model, batch.inputs)


def test_attend_goes_with_no_second_one_and_with_nothing_that_sees_the_scores():
    name = f"{HERE}:ByHand"
    with pytest.raises(VariantError, match="only one variant can replace the kernel"):
        attach(tiny("bert"), [name, name])
    with pytest.raises(VariantError, match="no scores for another to see"):
        attach(tiny("bert"), [name, "sink"])


def test_a_dropout_of_its_own_acts_on_the_weights(family):
    inputs = padded(family).inputs
    torch.testing.assert_close(
        logits(with_variant(family, DropFirstKey), inputs),
        logits(with_variant(family, HideFirstValue), inputs),
        **CLOSE,
    )


@pytest.mark.parametrize("family", ["bert", "llama", "t5"], indirect=True)
@pytest.mark.parametrize("cls", [DropFirstKey, NoDropout])
def test_the_dropout_of_the_model_is_left_out_where_a_variant_has_its_own_or_a_rate_of_zero(family, cls):
    model, inputs = with_variant(family, cls), padded(family).inputs
    sites = dict(attached(model))
    for module in model.modules():  # hidden states are not dropped, so only the weights could be
        if isinstance(module, nn.Dropout) and not any(module in site.children() for site in sites):
            module.p = 0.0
    model.train()
    assert torch.equal(logits(model, inputs), logits(model, inputs))


# ---- progress of training


def test_progress_is_0_before_training_and_is_saved_with_a_model_that_follows_it(tmp_path):
    model, inputs = with_variant("gpt2", Annealed), padded("gpt2").inputs
    assert torch.equal(logits(model, inputs), logits(tiny("gpt2"), inputs))
    set_progress(model, 0.5)
    halfway = logits(model, inputs)
    assert not torch.equal(halfway, logits(tiny("gpt2"), inputs))
    save(model, tmp_path / "saved")
    assert torch.equal(logits(load(tmp_path / "saved"), inputs), halfway)
    assert torch.equal(logits(copy.deepcopy(model), inputs), halfway)


def test_progress_is_not_written_for_a_model_that_does_not_follow_it(tmp_path):
    model = attach(tiny("gpt2"), "gate")
    set_progress(model, 0.5)
    logits(model, padded("gpt2").inputs)
    assert '"progress"' not in (save(model, tmp_path / "saved") / "config.json").read_text()


# ---- a layer of a variant's own, a penalty


def test_a_variant_may_have_a_linear_layer_that_is_saved_with_it(family, tmp_path):
    model, inputs = nudged(with_variant(family, OwnLayer)), padded(family).inputs
    save(model, tmp_path / "saved")
    assert torch.equal(logits(load(tmp_path / "saved"), inputs), logits(model, inputs))


def test_a_penalty_is_summed_over_the_sites_and_has_a_gradient():
    assert penalty(attach(tiny("bert"), "gate")) is None
    model = attach(tiny("bert"), {"head_gates": {"strength": 0.5}})
    total = penalty(model)
    total.backward()
    parameters = [stack.variants[0].openness for _, stack in attached(model)]
    is_open = torch.sigmoid(torch.cat(parameters) + 2.5 + 2 / 3 * torch.tensor(11.0).log())
    assert torch.isclose(total, 0.5 * is_open.sum())
    assert all((p.grad > 0).all() for p in parameters)


def test_merged_attention_whose_keys_come_from_two_places_gives_no_hidden_states_of_its_keys():
    model = with_variant("bart", Watch)
    cross = next(stack for _, stack in attached(model) if stack.site.is_cross)
    cross.site = dataclasses.replace(cross.site, key_input=cross.site.query_input)
    with pytest.raises(VariantError, match="its queries or keys have no hidden state each"):
        logits(model, padded("bart").inputs)


def test_attend_gets_a_bias_by_offset_written_out(monkeypatch):
    monkeypatch.setattr(runtime_call, "FEWEST_SCORES", 0)  # in training, blocks would take it as it is
    model = attach(tiny("bert"), ["relative_bias", f"{HERE}:ByHand"])
    for parameter in variant_parameters(model).values():
        nn.init.constant_(parameter, 0.3)
    seen = []
    for _, stack in attached(model):
        stack.variants[1].attend = lambda call: seen.append(call.position_bias) or call.own_value()
    with site_dropout(1):
        model.train()(**padded("bert").inputs)
    assert all(bias is not None and bool((bias == 0.3).all()) for bias in seen)
    assert len(seen) == 2


def test_states_of_earlier_tokens_follow_the_window_of_a_sliding_cache():
    """Such a cache has a maximum, but it is no static one."""
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = hf.MistralConfig(vocab_size=53, intermediate_size=29, head_dim=6, sliding_window=3, **sizes)
    model = nudged(attach(hf.MistralForCausalLM(config).eval(), "token_temperature"))
    asked = {"input_ids": torch.arange(9, 19).view(2, 5), **GREEDY, "output_logits": True}
    asked["return_dict_in_generate"] = True
    cached, full = (torch.stack(model.generate(**asked, use_cache=use).logits) for use in (True, False))
    torch.testing.assert_close(cached, full, **CLOSE)
