"""Tiny checkpoints of several families, and the ways in which people store them."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.pipelines.tasks.writing import SIZES, config, processor, with_model

HEADS = {"encoder": "token_classification", "decoder": "text_to_text", "encoder_decoder": "text_to_text"}
CLASSES = {
    "encoder": "AutoModelForTokenClassification",
    "decoder": "AutoModelForCausalLM",
    "encoder_decoder": "AutoModelForSeq2SeqLM",
}
WEIGHTS = "model.safetensors"


def stored(folder: Path, family: str, head: str | None = None, **options) -> transformers.PreTrainedModel:
    """Save a model with its tokenizer, in evaluation mode."""
    architecture, sizes = SIZES[family]
    tokenizer = processor(family)
    ids = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "decoder_start_token_id": 0}
    asked = transformers.AutoConfig.for_model(architecture, **(ids | sizes | options))
    torch.manual_seed(3)
    model = getattr(transformers, head or CLASSES[family]).from_config(asked)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model.eval()


def asked(folder: Path, family: str, **entries):
    """The run that starts from a folder."""
    return with_model(config(family), name=str(folder), architecture=None, config=entries)


def rewrite(folder: Path, change) -> None:
    """Store the weights as `change` returns them."""
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(change(tensors), folder / WEIGHTS, metadata={"format": "pt"})
