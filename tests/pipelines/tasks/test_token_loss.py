"""The loss in stretches is the loss of the whole, and keeps no float32 copy of all logits."""

from __future__ import annotations

import pytest
import torch
import transformers

from pipelines.tasks.shared import token_loss
from pipelines.tasks.shared.token_loss import IGNORED, target_losses, token_losses
from tests.custom_attention.models import padded, tiny


def naive(logits, labels):
    """One token at a time, in float64, from the definition."""
    losses = torch.zeros(labels.shape, dtype=torch.float64)
    for row in range(labels.shape[0]):
        for place in range(labels.shape[1]):
            if labels[row, place] != IGNORED:
                scores = logits[row, place].double()
                losses[row, place] = scores.exp().sum().log() - scores[labels[row, place]]
    return losses


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 11, 17, generator=generator, requires_grad=True)
    labels = torch.randint(0, 17, (3, 11), generator=generator)
    labels[0, 4:] = IGNORED
    labels[2, :7] = IGNORED
    return logits, labels


@pytest.mark.parametrize("elements", [1, 3 * 17 * 2, 3 * 17 * 5, 1 << 24])
def test_every_cut_gives_the_loss_by_definition_and_its_gradient(batch, elements, monkeypatch):
    logits, labels = batch
    monkeypatch.setattr(token_loss, "CHUNK_ELEMENTS", elements)
    losses = token_losses(logits, labels)
    expected = naive(logits, labels)
    assert losses.dtype == torch.float32
    assert torch.allclose(losses.double(), expected, atol=20 * torch.finfo(torch.float32).eps)
    assert (losses[labels == IGNORED] == 0).all()
    [found] = torch.autograd.grad(losses.sum(), logits)
    [wanted] = torch.autograd.grad(expected.sum(), logits)
    assert torch.allclose(found, wanted, atol=20 * torch.finfo(torch.float32).eps)


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5", "bart", "bert2bert", "llama"])
def test_logits_are_formed_at_targets_only_and_the_loss_is_that_of_all(family):
    model, inputs = tiny(family), padded(family).inputs
    if family == "bert":
        model = transformers.BertForMaskedLM(model.config).eval()
    everywhere = model(**inputs).logits
    labels = torch.full(everywhere.shape[:2], IGNORED)
    labels[0, 1:4], labels[1, 0] = torch.tensor([3, 9, 5]), 7
    expected = token_losses(everywhere, labels)
    rows = []
    model.get_output_embeddings().register_forward_hook(lambda *call: rows.append(call[-1].shape[:2]))
    losses, output = target_losses(model, inputs, labels, 4)
    assert rows == [output.logits.shape[:2]] == [(1, 4)]
    assert torch.allclose(losses, expected, atol=0.0, rtol=200 * torch.finfo(torch.float32).eps)
    model.get_output_embeddings = lambda: None  # a head that is no module gives all of them
    assert torch.equal(target_losses(model, inputs, labels, 4)[0], expected)
    assert target_losses(model, inputs, labels.fill_(IGNORED), 0)[0].sum() == 0


def test_half_precision_logits_are_summed_in_float32(batch):
    logits, labels = batch
    rounded = logits.detach().bfloat16()
    assert torch.equal(token_losses(rounded, labels), token_losses(rounded.float(), labels))


def test_log_probabilities_are_not_kept_for_the_backward_pass(monkeypatch):
    monkeypatch.setattr(token_loss, "CHUNK_ELEMENTS", 4 * 500)
    logits = torch.randn(4, 32, 500, requires_grad=True)
    kept = []

    def note(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        token_losses(logits, torch.zeros(4, 32, dtype=torch.long))
    own = {t.untyped_storage().data_ptr() for t in kept if t.is_floating_point()}
    assert own <= {logits.untyped_storage().data_ptr()}
