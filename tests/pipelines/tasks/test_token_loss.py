"""The loss in chunks is the loss of the whole, and keeps no copy of all logits."""

from __future__ import annotations

import pytest
import torch
import transformers

from pipelines.tasks.shared import token_loss
from pipelines.tasks.shared.token_loss import IGNORED, target_losses, token_losses
from tests.custom_attention.models import padded, tiny


def causal(family):
    """A tiny decoder with a vocabulary of the size of the tiny GPT-2's."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    more = {"vocab_size": tiny("gpt2").config.vocab_size, "intermediate_size": 24, "head_dim": 8}
    config = transformers.AutoConfig.for_model(family, **sizes, **more)
    torch.manual_seed(3)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


OWN_HEADS = {"cohere": causal, "gemma2": causal}


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


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("elements", [17 * 4, 1 << 24])
def test_the_gradient_takes_the_memory_of_the_logits_and_is_the_same(
    batch, smoothing, dtype, elements, monkeypatch
):
    monkeypatch.setattr(token_loss, "CHUNK_ELEMENTS", elements)
    values, labels = batch
    weight = torch.rand(labels.shape)
    own = values.detach().to(dtype).requires_grad_()
    losses = torch.nn.functional.cross_entropy(
        own.float().flatten(0, 1), labels.flatten(), reduction="none", label_smoothing=smoothing
    )
    [wanted] = torch.autograd.grad((losses.view(labels.shape) * weight).sum(), own)
    logits = values.detach().to(dtype).requires_grad_() * 1
    gradients = []
    logits.register_hook(gradients.append)
    found = token_losses(logits, labels, smoothing, reuse=True)
    (found * weight).sum().backward()
    assert torch.allclose(gradients[0], wanted, atol=20 * torch.finfo(dtype).eps, rtol=0.0)
    assert gradients[0].data_ptr() == logits.data_ptr()
    assert found.view(-1).tolist() == pytest.approx(losses.tolist(), abs=1e-6)


def test_a_second_backward_pass_over_reused_logits_is_refused(batch):
    values, labels = batch
    losses = token_losses(values * 1, labels, reuse=True).sum()
    losses.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        losses.backward()


@pytest.mark.parametrize("family", ["gpt2", "t5", "bart", "cohere", "gemma2"])
def test_gradients_of_a_model_are_those_of_the_loss_of_transformers(family):
    """Cohere scales what its head gives and Gemma 2 caps it, so that their logits are not the head's."""
    model, inputs = (
        OWN_HEADS.get(family, tiny)(family),
        padded("gpt2" if family in OWN_HEADS else family).inputs,
    )
    labels = torch.full(model(**inputs).logits.shape[:2], IGNORED)
    labels[0, 1:4], labels[1, 0] = torch.tensor([3, 9, 5]), 7
    expected = torch.nn.functional.cross_entropy(model(**inputs).logits.flatten(0, 1), labels.flatten())
    wanted = torch.autograd.grad(expected, list(model.parameters()), allow_unused=True)
    losses = target_losses(model, inputs, labels, 4)[0]
    found = torch.autograd.grad(losses.sum() / 4, list(model.parameters()), allow_unused=True)
    for one, other in zip(found, wanted):
        assert (one is None) == (other is None)
        if one is not None:
            bound = 500 * torch.finfo(torch.float32).eps * float(other.abs().max().clamp(min=1.0))
            assert torch.allclose(one, other, rtol=0.0, atol=bound)


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
