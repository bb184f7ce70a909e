"""Operations of a forward against a count by hand: equal for all kernels, more if a variant adds products."""

from __future__ import annotations

import pytest
import torch
import transformers

import custom_attention
from pipelines.models import flops, trial_inputs

WIDTH, INNER, LAYERS, HEADS, EXAMPLES, LEN = 12, 20, 2, 3, 2, 7
TOKENS, HEAD_DIM = EXAMPLES * LEN, WIDTH // HEADS
PROJECTIONS = TOKENS * (4 * WIDTH**2 + 2 * WIDTH * INNER)
ATTENTION = EXAMPLES * HEADS * 2 * LEN**2 * HEAD_DIM
BATCH = {"input_ids": torch.arange(5, 5 + TOKENS).view(EXAMPLES, LEN)}
BATCH["attention_mask"] = torch.ones_like(BATCH["input_ids"])


def bert(kernel: str = "sdpa") -> torch.nn.Module:
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
    )
    config._attn_implementation = kernel
    return transformers.BertModel(config, add_pooling_layer=False)


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_a_forward_costs_what_its_products_cost_by_hand(kernel):
    assert flops.of_forward(bert(kernel), BATCH) == 2 * LAYERS * (PROJECTIONS + ATTENTION)


@pytest.mark.parametrize(
    ("variant", "more"),
    [
        ("stock", 0),
        ("temperature", 0),
        ("softcap", 0),  # on the explicit path
        ("gate", EXAMPLES * HEADS * LEN * HEAD_DIM),  # one product of a query with a vector
    ],
)
def test_a_variant_costs_what_it_adds(variant, more):
    plain = flops.of_forward(bert(), BATCH)
    changed = flops.of_forward(custom_attention.attach(bert(), [variant]), BATCH)
    assert changed - plain == 2 * LAYERS * more


@pytest.mark.parametrize("variants", [["stock"], ["linear_attention"]], ids=lambda names: names[0])
def test_long_texts_count_whole_and_are_read_one_by_one(variants, monkeypatch):
    model = custom_attention.attach(bert(), variants)
    rows, whole = [], flops.of_forward(model, BATCH)
    monkeypatch.setattr(trial_inputs, "MOST_TOKENS", TOKENS - 1)
    model.register_forward_pre_hook(
        lambda _, args, inputs: rows.append(tuple(inputs["input_ids"].shape)), with_kwargs=True
    )
    assert flops.of_forward(model, BATCH | {"labels": torch.ones(EXAMPLES, LEN)}) == whole
    assert rows == [(1, LEN)] * EXAMPLES


def test_counting_changes_neither_modes_nor_the_random_stream():
    model = bert().train()
    model.encoder.layer[0].eval()
    modes, before = [module.training for module in model.modules()], torch.random.get_rng_state()
    flops.of_forward(model, BATCH)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), before)
