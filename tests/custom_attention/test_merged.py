"""Merged attention: a query of a decoder sees its own stack and the encoder's in one call (T5Gemma 2)."""

from __future__ import annotations

import copy
from typing import ClassVar

import pytest
import torch
import transformers as hf

from custom_attention import Variant, VariantError, attach, diagnose, load, prove, save, sites
from custom_attention.battery.checks import GREEDY, nudged
from tests.custom_attention.conftest import EPS
from tests.custom_attention.models import logits

HERE = __name__
CLOSE = {"rtol": 0, "atol": 2000 * EPS}
VOCAB, PAD, SOURCE_LEN, TARGET_LEN = 67, 0, 8, 5


@pytest.fixture(scope="module")
def prototype():
    text = {
        "vocab_size": VOCAB,
        "hidden_size": 28,
        "intermediate_size": 37,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 6,
        "query_pre_attn_scalar": 6,
        "sliding_window": 3,
        "layer_types": ["sliding_attention", "full_attention"],
        "max_position_embeddings": 60,
        "dropout_rate": 0.0,
    }
    ids = {"pad_token_id": PAD, "eos_token_id": 1, "bos_token_id": 2}
    vision = {
        "hidden_size": 12,
        "intermediate_size": 13,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    }
    encoder = {
        "text_config": {**text, **ids},
        "vision_config": vision,
        "mm_tokens_per_image": 4,
        "image_token_index": 66,
    }
    config = hf.T5Gemma2Config(
        encoder=encoder,
        decoder={**text, **ids},
        decoder_start_token_id=2,
        image_token_index=66,
        eoi_token_index=65,
        **ids,
    )
    torch.manual_seed(5)
    model = hf.T5Gemma2ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "embed" not in name:
                parameter.normal_(0, parameter.shape[-1] ** -0.5)
    return model


@pytest.fixture
def model(prototype):
    return copy.deepcopy(prototype)


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(9)
    ids = torch.randint(5, 60, (2, SOURCE_LEN), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    written = torch.randint(5, 60, (2, TARGET_LEN), generator=generator)
    return {"input_ids": ids * mask, "attention_mask": mask, "decoder_input_ids": written}


def source() -> dict[str, torch.Tensor]:
    return {name: value for name, value in batch().items() if name != "decoder_input_ids"}


class OwnValueAlone(Variant):
    """The output is the query's own value: attention that mixes nothing."""

    def output(self, output, call):
        return call.own_value()


class OwnPlace(Variant):
    """Notes how far the own value is from that of the query's own hidden state, and the number of keys."""

    gaps: ClassVar[list] = []
    counts: ClassVar[list] = []

    def output(self, output, call):
        of_tokens = call.module.v_proj(call.hidden).unflatten(-1, (-1, self.site.head_dim)).transpose(1, 2)
        repeats = self.site.num_heads // self.site.num_key_heads
        gap = call.own_value() - of_tokens.repeat_interleave(repeats, 1)
        self.gaps.append(gap.abs().max().item())
        self.counts.append(call.key.shape[2] - call.num_own_keys)
        return output


class KeyStates(Variant):
    """Keeps what keys and values are made from."""

    seen: ClassVar[list] = []

    def output(self, output, call):
        value = call.module.v_proj(call.key_hidden).unflatten(-1, (-1, call.value.shape[-1])).transpose(1, 2)
        self.seen.append((value - call.value).abs().max().item())
        return output


class Offsets(Variant):
    """Reads distances."""

    def query(self, query, call):
        call.offsets()
        return query


class ByOffset(Variant):
    """A bias by distance."""

    def offset_bias(self, offsets, call):
        return offsets[None].expand(self.site.num_heads, -1) * 0.1


class AlongKeys(Variant):
    """Keeps a state for each key."""

    def query(self, query, call):
        call.along_keys(query[:, 0])
        return query


def test_the_decoder_has_merged_sites_of_their_own_kind(model):
    found = [(site.stack, site.layer, site.kind, site.is_causal) for site in sites(model)]
    decoder = [("decoder", layer, "merged", True) for layer in (0, 1)]
    assert found == [*(("encoder", layer, "self", False) for layer in (0, 1)), *decoder]
    assert {site.more_keys_input for site in sites(model)} == {"", "encoder_hidden_states"}


def test_source_and_target_of_equal_length_are_told_apart(model):
    example = {"input_ids": torch.full((2, 6), 9), "decoder_input_ids": torch.full((2, 6), 8)}
    assert [site.kind for site in sites(model, example)] == ["self", "self", "merged", "merged"]


def test_where_selects_them(model):
    attach(model, "gate", where={"kind": "merged"})
    reached = [site.kind for site in sites(model)]
    assert reached == ["self", "self", "merged", "merged"]
    proof = prove(model, batch())
    assert proof.exact, proof.sentence
    assert proof.expected == 2
    before = logits(model, batch())
    assert (logits(nudged(model), batch()) - before).abs().max() > 1e-3


def test_a_kind_that_the_model_lacks_is_refused_by_what_it_has(model):
    with pytest.raises(VariantError, match="encoder self-attention in layers 0-1, decoder merged-attention"):
        attach(model, "gate", where={"kind": "cross"})


def test_with_own_values_alone_no_other_position_and_no_source_reaches_an_output(model):
    attach(model, f"{HERE}:OwnValueAlone", where={"kind": "merged"})
    inputs = batch()
    before = logits(model, inputs)
    for position in range(TARGET_LEN):
        ids = inputs["decoder_input_ids"].clone()
        ids[:, position] = 63
        moved = (logits(model, inputs | {"decoder_input_ids": ids}) - before).abs().amax((0, 2)) > 0
        assert moved.nonzero().flatten().tolist() == [position]
    read = inputs["input_ids"].clone()
    read[:, 1] = 63
    assert torch.equal(logits(model, inputs | {"input_ids": read}), before)


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("cache", ["none", "dynamic", "static"])
def test_the_own_value_is_that_of_the_querys_own_token_with_every_cache(model, kernel, cache):
    model.set_attn_implementation(kernel)
    attach(model, f"{HERE}:OwnPlace", where={"kind": "merged"})
    OwnPlace.gaps.clear()
    OwnPlace.counts.clear()
    asked = {"use_cache": cache != "none"}
    if cache == "static":
        asked |= {"cache_implementation": "static", "disable_compile": True}
    model.generate(**source(), **GREEDY, **asked)
    assert len(OwnPlace.gaps) == 2 * GREEDY["max_new_tokens"]
    assert max(OwnPlace.gaps) <= 100 * EPS
    assert set(OwnPlace.counts) == {SOURCE_LEN}


@pytest.mark.parametrize("name", ["exclusive", "token_temperature", "gate", "sink", "linear_attention"])
def test_decoding_with_a_cache_equals_the_full_forward(model, name):
    attach(model, name)
    assert prove(model, batch()).passed
    nudged(model)
    asked = {**source(), **GREEDY, "return_dict_in_generate": True, "output_logits": True}
    cached, full = (model.generate(**asked, use_cache=use) for use in (True, False))
    assert torch.equal(cached.sequences, full.sequences)
    torch.testing.assert_close(torch.stack(cached.logits), torch.stack(full.logits), **CLOSE)


def test_the_hidden_states_of_both_stacks_stand_in_the_order_of_the_keys(model):
    KeyStates.seen.clear()
    attach(model, f"{HERE}:KeyStates", where={"kind": "merged"})
    model(**batch())
    model.generate(**source(), **GREEDY)
    assert len(KeyStates.seen) == 2 + 2 * GREEDY["max_new_tokens"]
    assert max(KeyStates.seen) <= 100 * EPS


@pytest.mark.parametrize("name", ["alibi", "relative_bias", "forgetting", "selective", "multi_token"])
def test_variants_of_distance_are_refused_in_one_sentence(model, name):
    with pytest.raises(VariantError, match=r"decoder.*is merged-attention.*where: \{kind: self\}"):
        attach(model, name)
    assert len(prove(attach(model, name, where={"kind": "self"}), batch()).sentence) > 0


@pytest.mark.parametrize("name", ["Offsets", "ByOffset", "AlongKeys"])
def test_hooks_that_need_one_order_of_keys_stop_with_the_name_of_the_site(model, name):
    attach(model, f"{HERE}:{name}", where={"kind": "merged"})
    with pytest.raises(VariantError, match=r"decoder\.layers\.0\.self_attn"):
        model(**batch())


def test_a_saved_model_keeps_the_kind(model, tmp_path):
    attach(model, "exclusive", where={"kind": "merged"})
    nudged(model)
    save(model, tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert [site.kind for site in sites(again)] == ["self", "self", "merged", "merged"]
    assert torch.equal(logits(again, batch()), logits(model, batch()))


def test_diagnostics_name_the_kind_and_count_every_real_query(model):
    rows = diagnose(model, batch())
    assert [row.to_dict()["kind"] for row in rows] == ["self", "self", "merged", "merged"]
    assert [row.num_rows for row in rows] == [13, 13, 10, 10]
