"""A Trainer under PEFT keeps the variants' parameters in its checkpoints, with the callback for it."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch
import transformers as hf

import custom_attention
from custom_attention import attach, variant_parameters
from tests.custom_attention.models import tiny
from tests.custom_attention.test_other_loops import TARGETS, trainer


def adapted(seed: int = 0, dropout: float = 0.1):
    """A BERT with variants and an adapter, as before its training."""
    model = attach(tiny("bert"), ["temperature", "gate"])
    torch.manual_seed(seed)
    made = peft.get_peft_model(
        model, peft.LoraConfig(r=4, lora_dropout=dropout, target_modules=TARGETS["bert"])
    )
    for parameter in variant_parameters(made).values():
        parameter.requires_grad_(True)
    return made


def with_callback(model, folder: Path, steps: int, callback=None, **changes) -> hf.Trainer:
    made = trainer(model, folder, steps)
    made.add_callback(callback or custom_attention.trainer_callback())
    for name, value in changes.items():
        setattr(made.args, name, value)
    return made


def same(one, two) -> None:
    pairs = zip(one.state_dict().items(), two.state_dict().items(), strict=True)
    assert not [name for (name, first), (_, second) in pairs if not torch.equal(first, second)]


def test_an_adapted_model_resumes_with_its_variants_to_the_same_bits(tmp_path):
    whole, halted, again = (adapted() for _ in range(3))
    with_callback(whole, tmp_path / "whole", 6).train()
    with_callback(halted, tmp_path / "halted", 3).train()
    checkpoint = str(tmp_path / "halted" / "checkpoint-3")
    with_callback(again, tmp_path / "halted", 6).train(resume_from_checkpoint=checkpoint)
    assert all(parameter.abs().max() > 0 for parameter in variant_parameters(again).values())
    same(whole, again)


def test_a_checkpoint_of_another_folder_is_named(tmp_path):
    halted, moved = adapted(), adapted()
    with_callback(halted, tmp_path / "one", 3).train()
    checkpoint = str(tmp_path / "one" / "checkpoint-3")
    with pytest.raises(custom_attention.VariantError, match=r"has no variants.safetensors.*resume_from="):
        with_callback(adapted(), tmp_path / "two", 6).train(resume_from_checkpoint=checkpoint)
    named = custom_attention.trainer_callback(resume_from=checkpoint)
    with_callback(moved, tmp_path / "three", 3, named).train(resume_from_checkpoint=checkpoint)
    same(moved, halted)


def test_a_checkpoint_without_the_variants_is_refused(tmp_path):
    trainer(adapted(), tmp_path, 3).train()  # without the callback
    with pytest.raises(
        custom_attention.VariantError, match=r"has no variants.safetensors, so the variants would"
    ):
        with_callback(adapted(), tmp_path, 6).train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))


def test_frozen_variants_are_told_before_the_first_step(tmp_path):
    model = adapted()
    for parameter in variant_parameters(model).values():
        parameter.requires_grad_(False)
    with pytest.raises(custom_attention.VariantError, match=r"are frozen.*requires_grad_\(True\)"):
        with_callback(model, tmp_path, 3).train()


def test_the_best_checkpoint_brings_its_variants(tmp_path):
    model = adapted()
    made = with_callback(model, tmp_path, 6, eval_strategy="steps", eval_steps=3, load_best_model_at_end=True)
    losses = iter([1.0, 2.0])
    made.evaluate = lambda *_, **__: {"eval_loss": next(losses, 3.0)}  # the checkpoint of step 3 is the best
    made.args.metric_for_best_model, made.args.greater_is_better = "loss", False
    made.train()
    best = adapted()
    with_callback(best, tmp_path / "three", 3).train()
    same(model, best)


def test_other_variants_are_refused(tmp_path):
    with_callback(adapted(), tmp_path, 3).train()
    other = attach(tiny("bert"), ["temperature"])
    made = peft.get_peft_model(other, peft.LoraConfig(r=4, target_modules=TARGETS["bert"]))
    for parameter in variant_parameters(made).values():
        parameter.requires_grad_(True)
    with pytest.raises(custom_attention.VariantError, match="it belongs to other variants"):
        custom_attention.trainer._load(made, tmp_path / "checkpoint-3")
