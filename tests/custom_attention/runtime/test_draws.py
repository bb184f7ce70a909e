"""Inside attention, too, every arm drops the same weights on a CPU: kernel and explicit path draw alike."""

from __future__ import annotations

import pytest
import torch
import transformers

import custom_attention
from custom_attention.registry import names
from custom_attention.runtime import call

SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 31}


def outputs_in_training(spec):
    torch.manual_seed(0)
    config = transformers.BertConfig(**SIZES, vocab_size=50, attention_probs_dropout_prob=0.3)
    model = custom_attention.attach(transformers.BertModel(config), spec).train()
    ids = torch.randint(1, 50, (3, 11), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[0, 7:] = 0
    with custom_attention.site_dropout(5), torch.no_grad():
        return model(input_ids=ids, attention_mask=mask).last_hidden_state, model


@pytest.mark.parametrize("fewest", [0, call.FEWEST_SCORES], ids=["in blocks", "by the kernel"])
@pytest.mark.parametrize("name", names())
def test_a_neutral_variant_drops_what_stock_drops(name, fewest, monkeypatch):
    monkeypatch.setattr(call, "FEWEST_SCORES", fewest)
    stock, _ = outputs_in_training([])
    swapped, model = outputs_in_training([name])
    variants = [variant for _, stack in custom_attention.attached(model) for variant in stack]
    if not all(variant.neutral_at_start for variant in variants):
        pytest.skip(f"{name} does not start as stock, so its outputs differ for another reason")
    if any({"dropout", "dropout_rate", "attend", "penalty"} & variant.hooks for variant in variants):
        pytest.skip(f"{name} draws numbers of its own in training")
    assert (swapped - stock).abs().max() <= 50 * torch.finfo(torch.float32).eps * stock.abs().max()


def test_another_seed_drops_others():
    stock, model = outputs_in_training([])
    ids = torch.randint(1, 50, (3, 11), generator=torch.Generator().manual_seed(1))
    with custom_attention.site_dropout(6), torch.no_grad():
        other = model(input_ids=ids).last_hidden_state
    assert (other - stock).abs().max() > 0.1
