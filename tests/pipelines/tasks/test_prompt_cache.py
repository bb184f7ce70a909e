"""A decoder reads a source once, for the loss of its target and for the text that it writes itself."""

import copy

import pytest
import torch
import transformers

import custom_attention
from tests.pipelines.actions.test_predict import cell

SIZES = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "intermediate_size": 29,
    "head_dim": 8,
}
SEARCHES = [{}, {"num_beams": 3}, {"min_new_tokens": 2, "no_repeat_ngram_size": 1}]


def decoder(kind, vocab_size):
    torch.manual_seed(9)
    if kind == "gpt2":
        sizes = {"n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 96}
        made = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=vocab_size, **sizes))
    elif kind == "llama":
        made = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=vocab_size, **SIZES))
    else:
        asked = transformers.MistralConfig(vocab_size=vocab_size, sliding_window=4, **SIZES)
        made = transformers.MistralForCausalLM(asked)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 1.3 * parameter.shape[-1] ** -0.5)
    return made.eval()


def predicted(kind, variants=(), **search):
    """What `predict` gives of a batch, the losses and texts of two separate ways, and the lengths it read."""
    task, _, _, features, _ = cell("translation-gpt2")
    model, batch = decoder(kind, len(task.processor)), task.collate(list(features))
    if variants:
        custom_attention.attach(model, list(variants))
        with torch.no_grad():
            for parameter in custom_attention.variant_parameters(model).values():
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4)))
    asked = {"do_sample": False, "max_new_tokens": 6, **search}
    form, lengths = task._form, []
    with torch.no_grad():
        apart = form.losses(model, batch), form.generate(model, batch, asked)
        hook = model.register_forward_pre_hook(
            lambda module, args, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
        )
        together = form.predict(model, copy.copy(batch), asked)
        hook.remove()
    prompts = ((batch["labels"] < 0) & batch["attention_mask"].bool()).sum(1)
    assert len(set(prompts.tolist())) > 1
    return together, apart, lengths, prompts


def assert_same(together, apart):
    torch.testing.assert_close(together[0], apart[0], rtol=1e-5, atol=1e-5)
    assert together[1] == apart[1]
    assert any(together[1])


@pytest.mark.parametrize("search", SEARCHES, ids=str)
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_source_is_read_once_for_loss_and_text(kind, search):
    together, apart, lengths, _ = predicted(kind, **search)
    assert_same(together, apart)
    assert set(lengths[1:]) == {1}


@pytest.mark.parametrize("variants", [["alibi", "relative_bias"], ["forgetting", "token_temperature"]])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_variants_that_count_or_keep_tokens_go_on_as_if_the_prompt_was_read_alone(kind, variants):
    together, apart, lengths, _ = predicted(kind, variants)
    assert_same(together, apart)
    assert set(lengths[1:]) == {1}


def test_a_cache_of_a_window_cannot_be_cut_and_the_prompt_is_read_again():
    together, apart, lengths, prompts = predicted("mistral")
    assert_same(together, apart)
    assert lengths[1] == prompts.max()
