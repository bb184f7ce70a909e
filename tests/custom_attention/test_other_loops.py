"""Attached models inside transformers' Trainer and under PEFT's LoRA; the blocks of docs/attach.md run."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import peft
import pytest
import torch
import transformers as hf

import custom_attention
from custom_attention import attach, attached, is_attached, prove, variant_parameters
from tests.custom_attention.models import logits, nudge, padded, tiny

GUIDE = (Path(__file__).parents[2] / "docs" / "attach.md").read_text(encoding="utf-8")
ALONE, KERNEL, TRAINER, ADAPTED, LORA = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
NUM_EXAMPLES, BATCH = 12, 4


def examples() -> list[dict]:
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(5, 61, (NUM_EXAMPLES, 7), generator=generator)
    return [{"input_ids": row, "attention_mask": torch.ones_like(row), "labels": row % 5} for row in ids]


@pytest.fixture
def in_a_folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_first_block_of_the_guide_runs(capsys):
    exec(ALONE, {"model": tiny("t5"), "batch": padded("t5").inputs})
    printed = capsys.readouterr().out
    assert "the swap is exact" in printed
    assert "SelfAttention" in printed


def test_the_block_on_another_kernel_runs():
    found = {"model": tiny("bert")}
    exec(KERNEL, found)
    assert not any(stack.own_kernel for _, stack in custom_attention.attached(found["model"]))


def test_the_trainer_trains_the_variants_and_the_saved_model_loads(in_a_folder):
    model = tiny("bert")
    exec(TRAINER, {"model": model, "dataset": examples()})
    assert all(p.abs().max() > 1e-4 for name, p in variant_parameters(model).items() if "weight" in name)
    loaded = custom_attention.load("out/model")
    inputs = padded("bert").inputs
    model.eval()
    assert torch.equal(logits(loaded, inputs), logits(model, inputs))


def trainer(model, folder: Path, steps: int, dataset=None) -> hf.Trainer:
    options = {"max_steps": steps, "save_steps": 3, "per_device_train_batch_size": BATCH, "report_to": []}
    arguments = hf.TrainingArguments(
        str(folder), learning_rate=1e-2, lr_scheduler_type="constant", disable_tqdm=True, **options
    )
    return hf.Trainer(model, arguments, train_dataset=dataset or examples())


def test_the_stock_control_trains_as_the_model_itself_does(tmp_path):
    """Loss after loss, bit for bit, with dropout."""
    weights = []
    for spec in (None, []):
        model = tiny("bert") if spec is None else attach(tiny("bert"), spec)
        trainer(model, tmp_path / str(spec), 5).train()
        weights.append(list(model.parameters()))
    for one, two in zip(*weights, strict=True):
        assert torch.equal(one, two)


def test_a_trainer_resumes_with_the_variants_and_its_checkpoint_is_no_stock_model(tmp_path):
    whole, halted = (attach(tiny("bert"), ["temperature", "gate"]) for _ in range(2))
    trainer(whole, tmp_path / "whole", 6).train()
    trainer(halted, tmp_path / "halted", 3).train()
    again = attach(tiny("bert"), ["temperature", "gate"])
    trainer(again, tmp_path / "halted", 6).train(resume_from_checkpoint=str(tmp_path / "halted/checkpoint-3"))
    for (name, one), two in zip(variant_parameters(whole).items(), variant_parameters(again).values()):
        assert one.abs().max() > 0, name
        assert torch.equal(one, two), name
    stray = hf.BertForTokenClassification.from_pretrained(tmp_path / "halted/checkpoint-3")
    with pytest.raises(ValueError, match=r"nothing is attached.*attach before its weights are loaded"):
        logits(stray, padded("bert").inputs)


def test_generation_works_inside_a_seq2seq_trainer(tmp_path):
    model = attach(tiny("t5"), "gate")
    nudge(variant_parameters(model).values())
    rows = [{"input_ids": e["input_ids"], "labels": e["labels"] + 5} for e in examples()]
    arguments = hf.Seq2SeqTrainingArguments(
        str(tmp_path), predict_with_generate=True, generation_max_length=6, report_to=[], disable_tqdm=True
    )
    predicted = hf.Seq2SeqTrainer(model, arguments).predict(rows).predictions
    ids = torch.stack([row["input_ids"] for row in rows])
    assert torch.equal(torch.as_tensor(predicted)[:, :6], model.generate(input_ids=ids, max_length=6))


# ---- LoRA

TARGETS = {"bert": ["query", "value"], "gpt2": ["c_attn"], "t5": ["q", "v"], "llama": "all-linear"}


def train(model, inputs: dict) -> None:
    """A few steps of plain gradient descent on all that is trainable."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        model(**inputs).logits.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_the_block_on_lora_gives_a_plain_checkpoint_of_the_same_function(in_a_folder):
    model, inputs = tiny("llama"), padded("llama").inputs
    seen = {}

    def trained(adapted):
        train(adapted, inputs)
        seen["logits"] = logits(adapted.eval(), inputs)
        seen["moved"] = [p.detach().abs().max() for p in variant_parameters(adapted).values()]

    exec(LORA, {"model": model, "train": trained})
    assert min(seen["moved"]) > 0
    plain = hf.AutoModelForCausalLM.from_pretrained("out/plain").eval()
    assert not is_attached(plain)
    torch.testing.assert_close(logits(plain, inputs), seen["logits"], rtol=0, atol=1e-4)
    assert (seen["logits"] - logits(tiny("llama"), inputs)).abs().max() > 1e-2


@pytest.mark.parametrize("name", TARGETS)
def test_lora_leaves_the_swap_exact_and_never_adapts_the_variants(name):
    model, inputs = attach(tiny(name), ["temperature", "gate"]), padded(name).inputs
    before, ours = logits(model, inputs), len(variant_parameters(model))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on the layout of GPT-2's projections
        adapted = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=TARGETS[name]))
    assert torch.equal(logits(adapted, inputs), before)
    assert not any("attnlab" in name and "lora" in name for name, _ in adapted.named_parameters())
    assert len(variant_parameters(adapted)) == ours
    nudge([p for p in adapted.parameters() if p.requires_grad], size=0.2)
    nudge(variant_parameters(adapted).values())
    with_adapter = logits(adapted, inputs)
    merged = adapted.merge_and_unload()
    assert len(attached(merged)) == len(attached(attach(tiny(name), [])))
    torch.testing.assert_close(logits(merged, inputs), with_adapter, rtol=0, atol=1e-4)
    assert not prove(merged, inputs).passed  # trained: no longer at its neutral start


def test_the_block_on_lora_in_the_trainer_runs(in_a_folder):
    model = tiny("bert")
    exec(ADAPTED, {"model": model, "dataset": examples()})
    assert (in_a_folder / "out" / "model" / "config.json").is_file()


@pytest.mark.parametrize("spec", [["temperature", "gain"], ["temperature", "gate"]], ids=["constant", "live"])
@pytest.mark.parametrize("name", TARGETS)
def test_a_lora_model_is_merged_and_folded_or_saved_with_its_variants(name, spec, tmp_path):
    model, inputs = attach(tiny(name), spec), padded(name).inputs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=TARGETS[name]))
    for parameter in variant_parameters(adapted).values():
        parameter.requires_grad_(True)
    train(adapted, inputs)
    assert all(p.abs().max() > 0 for p in variant_parameters(adapted).values())
    adapted.eval()
    expected = logits(adapted, inputs)
    merged = adapted.merge_and_unload()
    if "gate" in spec:
        again = custom_attention.load(custom_attention.save(merged, tmp_path))
        assert torch.equal(logits(again, inputs), logits(merged, inputs))
    else:
        custom_attention.fold(merged)
        merged.save_pretrained(tmp_path)
        again = type(tiny(name)).from_pretrained(tmp_path).eval()
        assert not is_attached(again)
    for row in range(3):
        one, other = (padded(name).real(output, row) for output in (logits(again, inputs), expected))
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)
