"""A kernel that is set while variants are attached is refused, never used in their place."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import transformers as hf

import custom_attention
from custom_attention.kernel_names import attention_configs
from tests.custom_attention.models import FAMILIES, logits, nudge, padded, tiny


def set_fields(model):
    for config in attention_configs(model):  # the stacks of an encoder-decoder have copies of the model's
        config._attn_implementation = "sdpa"


SET = {  # ways to set a kernel
    "method": lambda model: model.set_attn_implementation("sdpa"),
    "other kernel": lambda model: model.set_attn_implementation("eager"),
    "field": set_fields,
}


def attached(family, spec=("gate",)):
    model = custom_attention.attach(tiny(family), list(spec))
    nudge(model.parameters(), size=0.05)
    return model


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("way", SET)
def test_a_kernel_that_is_set_after_attaching_is_refused(family, way):
    model, inputs = attached(family), padded(family).inputs
    expected = logits(model, inputs)
    [before] = {config._attn_implementation for config in attention_configs(model)}
    SET[way](model)
    if family == "deberta" and way != "field":  # transformers leaves the kernel of such a model as it is
        assert {config._attn_implementation for config in attention_configs(model)} == {before}
        assert torch.equal(logits(model, inputs), expected)
        return
    with pytest.raises(ValueError, match=r"was set to '(sdpa|eager)' while variants are attached"):
        logits(model, inputs)
    for config in attention_configs(model):
        config._attn_implementation = before
    assert torch.equal(logits(model, inputs), expected)


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_a_loaded_model_and_an_exported_class_refuse_it_too(family, tmp_path):
    inputs = padded(family).inputs
    custom_attention.save(attached(family), tmp_path)
    auto = {"bert": hf.AutoModelForTokenClassification, "gpt2": hf.AutoModelForCausalLM}
    auto_class = auto.get(family, hf.AutoModelForSeq2SeqLM)
    exported = auto_class.from_pretrained(tmp_path, trust_remote_code=True)
    for model in (custom_attention.load(tmp_path), auto_class.from_pretrained(tmp_path), exported):
        logits(model.eval(), inputs)
        model.set_attn_implementation("sdpa")
        with pytest.raises(ValueError, match="while variants are attached"):
            logits(model, inputs)


def test_copies_refuse_it_and_a_detached_model_takes_any_kernel():
    model, inputs = attached("bert"), padded("bert").inputs
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        copied.config._attn_implementation = "eager"
        with pytest.raises(ValueError, match="while variants are attached"):
            logits(copied, inputs)
        custom_attention.detach(copied)
        logits(copied, inputs)
        copied.set_attn_implementation("sdpa")
        logits(copied, inputs)
        assert not any(module._forward_pre_hooks for module in copied.modules())
    logits(model, inputs)


def test_the_proof_and_the_fold_still_compare_with_the_own_kernel():
    model = custom_attention.attach(tiny("bert"), [{"temperature": {"per": "head"}}])
    assert custom_attention.prove(model, padded("bert").inputs).passed
    custom_attention.fold(model)
    logits(model, padded("bert").inputs)
