"""Gradients of embedding tables by row are those that autograd adds up densely."""

from __future__ import annotations

import pytest
import torch
import transformers as hf

from pipelines.train.speed import embedding_gradients
from pipelines.train.speed.embedding_gradients import RowGradients, large_tables
from tests.pipelines.train import harness

SIZES = {"vocab_size": 37, "pad_token_id": 0}


def models():
    bert = hf.BertForTokenClassification(hf.BertConfig(**SIZES, **harness.ARCHITECTURES["bert"]))
    gpt2 = hf.GPT2LMHeadModel(hf.GPT2Config(**SIZES, **harness.ARCHITECTURES["gpt2"]))
    t5 = hf.T5ForConditionalGeneration(
        hf.T5Config(**SIZES, **harness.ARCHITECTURES["t5"], decoder_start_token_id=0)
    )
    return {"bert": bert, "gpt2, tied": gpt2, "t5, tied": t5}


def backward(model: torch.nn.Module, seed: int) -> None:
    """Two micro-batches of unequal length, padding and repeated tokens in them."""
    torch.manual_seed(seed)
    for length in (3, 8):
        ids = torch.randint(0, 9, (2, length)) * (seed + 1)  # other rows in other steps
        more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
        logits = model(input_ids=ids, **more).logits
        logits.mul(torch.linspace(-1, 1, logits.numel()).view_as(logits)).sum().backward()


def gradients_of(model: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


@pytest.fixture(autouse=True)
def every_table(monkeypatch):
    monkeypatch.setattr(embedding_gradients, "FEWEST_ELEMENTS", 0)


@pytest.mark.parametrize("name", models())
def test_each_step_has_the_dense_gradient_and_leaves_nothing_to_the_next(name):
    model = models()[name].double().eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    expected = []
    for seed in range(3):
        backward(model, seed)
        expected.append(gradients_of(model))
        model.zero_grad()
    gradients = RowGradients(large_tables(model))
    for seed in range(3):
        backward(model, seed)
        gradients.gather()
        found = gradients_of(model)
        for one, two in zip(found, expected[seed], strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=1e-12)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        gradients.clear(optimizer)


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_a_run_learns_the_same_with_and_without(architecture, tmp_path, monkeypatch):
    options = {"architecture": architecture, "max_steps": 4, "max_tokens": 24}
    by_row = harness.fit(tmp_path / "rows", **options)
    assert by_row.engine.row_gradients._dense
    monkeypatch.setattr(embedding_gradients, "FEWEST_ELEMENTS", 2**62)
    densely = harness.fit(tmp_path / "dense", **options)
    found, expected = harness.weights(by_row), harness.weights(densely)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
