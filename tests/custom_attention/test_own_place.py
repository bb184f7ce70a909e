"""The check of the architecture table that moves one hidden state: it finds a wrong own position or value."""

from __future__ import annotations

import pytest
import torch
import transformers as hf

from custom_attention import Variant, VariantError, attach, prove, sites
from custom_attention.runtime.call import Call
from scripts.seam_checks.own_place import WITNESS, NotComparable, misplaced
from tests.custom_attention.models import tiny, unpadded


def found(model, inputs) -> str | None:
    with torch.no_grad():
        return misplaced(attach(model, WITNESS), lambda: None, lambda: model(**inputs))


def modernbert():
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 37}
    ids = {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
    return hf.ModernBertModel(hf.ModernBertConfig(vocab_size=61, local_attention=4, **sizes, **ids)).eval()


def test_every_family_passes(family):
    assert found(tiny(family), unpadded(family)) is None


def test_a_rotary_encoder_passes():
    assert found(modernbert(), {"input_ids": torch.arange(5, 19).view(2, 7)}) is None


@pytest.mark.parametrize("what", ["own_positions", "own_value"])
def test_a_neighbours_place_is_found(family, what, monkeypatch):
    right = getattr(Call, what)
    axis = 1 if what == "own_positions" else 2
    monkeypatch.setattr(Call, what, lambda call: right(call).roll(1, axis))
    assert "query 0" in found(tiny(family), unpadded(family))


class ExclusiveOfMine(Variant):
    """Reads own values."""

    def output(self, output, call):
        return output - 0.1 * call.own_value()


def pooled():
    """Latents that see a context and themselves: the keys are more than the queries."""
    config = hf.Idefics2PerceiverConfig(
        hidden_size=24, resampler_n_latents=3, resampler_depth=1, resampler_n_heads=4, resampler_head_dim=6
    )
    config.num_key_value_heads = 2
    return hf.models.idefics2.modeling_idefics2.Idefics2PerceiverResampler(config).eval()


def test_keys_that_are_not_one_for_each_query_have_no_own_place():
    model = pooled()
    example = {"context": torch.randn(2, 5, 24), "attention_mask": torch.ones(2, 5)}
    assert not any(site.has_own_keys for site in sites(model, example))
    attach(model, f"{__name__}:ExclusiveOfMine", example=example)
    with pytest.raises(VariantError, match="not one for each query"):
        prove(model, example)


def test_a_model_without_own_keys_is_not_compared():
    model = pooled()
    example = {"context": torch.randn(2, 5, 24), "attention_mask": torch.ones(2, 5)}
    attach(model, WITNESS, example=example)
    with pytest.raises(NotComparable, match="no query has a key of its own"):
        misplaced(model, lambda: None, lambda: model(**example))
