"""Tiny models of eight families, odd in every size, and batches that pad unequally."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import transformers as hf
from torch import Tensor

PAD, EOS, VOCAB = 0, 1, 61


def _bert(**extra: Any) -> hf.BertConfig:
    return hf.BertConfig(
        vocab_size=VOCAB,
        hidden_size=30,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=37,
        max_position_embeddings=40,
        **extra,
    )


def _modernbert() -> hf.ModernBertConfig:
    """Rotary; its second layer sees a window of two tokens on each side."""
    sizes: dict[str, Any] = {"hidden_size": 30, "num_hidden_layers": 2, "num_attention_heads": 5}
    sizes |= {"intermediate_size": 37, "num_labels": 5, "attention_dropout": 0.1}
    window: dict[str, Any] = {"global_attn_every_n_layers": 2, "local_attention": 4}
    ids: dict[str, Any] = {"pad_token_id": PAD, "bos_token_id": 2, "cls_token_id": 2}
    ids |= {"eos_token_id": 3, "sep_token_id": 3}
    return hf.ModernBertConfig(vocab_size=VOCAB, **sizes, **window, **ids)


def _deberta() -> hf.DebertaV2Config:
    """As DeBERTa-v3, by its adapter."""
    sizes: dict[str, Any] = {"hidden_size": 30, "num_hidden_layers": 2, "num_attention_heads": 3}
    sizes |= {"intermediate_size": 37, "max_position_embeddings": 40, "num_labels": 5}
    places: dict[str, Any] = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
    places |= {"position_buckets": 4, "share_att_key": True, "norm_rel_ebd": "layer_norm"}
    return hf.DebertaV2Config(vocab_size=VOCAB, position_biased_input=False, **sizes, **places)


def _build(family: str) -> Any:
    sizes: dict[str, Any]
    if family == "bert":
        return hf.BertForTokenClassification(_bert(num_labels=5))
    if family == "modernbert":
        return hf.ModernBertForTokenClassification(_modernbert())
    if family == "deberta":
        return hf.DebertaV2ForTokenClassification(_deberta())
    if family == "gpt2":
        sizes = {"n_embd": 28, "n_layer": 2, "n_head": 4, "n_positions": 40, "n_inner": 37}
        return hf.GPT2LMHeadModel(
            hf.GPT2Config(vocab_size=VOCAB, bos_token_id=EOS, eos_token_id=EOS, **sizes)
        )
    if family == "t5":
        sizes = {"d_model": 26, "d_kv": 6, "num_heads": 3, "num_layers": 2, "d_ff": 37}
        sizes["decoder_start_token_id"] = PAD
        return hf.T5ForConditionalGeneration(hf.T5Config(vocab_size=VOCAB, **sizes))
    if family == "llama":
        sizes = {
            "hidden_size": 40,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        }
        extra: dict[str, Any] = {
            "intermediate_size": 37,
            "attention_dropout": 0.1,
            "bos_token_id": EOS,
            "eos_token_id": EOS,
        }
        return hf.LlamaForCausalLM(hf.LlamaConfig(vocab_size=VOCAB, **sizes, **extra))
    if family == "bart":
        sizes = {
            "d_model": 30,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_ffn_dim": 37,
            "decoder_ffn_dim": 33,
        }
        heads: dict[str, Any] = {
            "encoder_attention_heads": 3,
            "decoder_attention_heads": 5,
            "max_position_embeddings": 40,
        }
        ids: dict[str, Any] = {
            "pad_token_id": PAD,
            "eos_token_id": EOS,
            "bos_token_id": 2,
            "decoder_start_token_id": 2,
        }
        config = hf.BartConfig(vocab_size=VOCAB, attention_dropout=0.1, **sizes, **heads, **ids)
        return hf.BartForConditionalGeneration(config)
    decoder = _bert(is_decoder=True, add_cross_attention=True)
    both = hf.EncoderDecoderConfig.from_encoder_decoder_configs(_bert(), decoder)
    both.decoder_start_token_id, both.pad_token_id, both.eos_token_id = 2, PAD, EOS
    return hf.EncoderDecoderModel(config=both)


FAMILIES = ("bert", "modernbert", "deberta", "gpt2", "t5", "llama", "bart", "bert2bert")
ENCODERS = ("bert", "modernbert", "deberta")
CAUSAL = ("gpt2", "llama")
ENCODER_DECODER = ("t5", "bart", "bert2bert")
GENERATING = CAUSAL + ENCODER_DECODER


@cache
def _prototype(family: str) -> Any:
    torch.manual_seed(7)
    model = _build(family).eval()
    with torch.no_grad():  # weights large enough for attention to matter
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 1.3 * parameter.shape[-1] ** -0.5)
            elif "bias" in name:
                parameter.normal_(0, 0.2)
    return model


def tiny(family: str) -> Any:
    """A fresh copy of the family's tiny model in evaluation mode, the same weights every time."""
    return copy.deepcopy(_prototype(family))


@dataclass(frozen=True)
class Padded:
    """A batch of unequal examples, and where its real tokens are."""

    inputs: dict[str, Any]
    lengths: tuple[int, ...]
    left: bool

    def alone(self, row: int) -> dict[str, Any]:
        """The inputs of one example without its padding."""
        length = self.lengths[row]
        cut = slice(-length, None) if self.left else slice(0, length)
        keep = {"decoder_input_ids": slice(None)}
        return {name: value[row : row + 1, keep.get(name, cut)] for name, value in self.inputs.items()}

    def real(self, output: torch.Tensor, row: int) -> torch.Tensor:
        """The part of an output (batch, len, ...) that belongs to real tokens of one example."""
        if "decoder_input_ids" in self.inputs:
            return output[row]
        length = self.lengths[row]
        return output[row, -length:] if self.left else output[row, :length]


def padded(family: str) -> Padded:
    generator = torch.Generator().manual_seed(11)
    lengths, longest, left = (9, 4, 6), 9, family in CAUSAL
    ids = torch.randint(5, VOCAB, (3, longest), generator=generator)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        mask[row, slice(-length, None) if left else slice(0, length)] = 1
    ids = ids.masked_fill(mask == 0, PAD)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if left:
        inputs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    if family in ENCODER_DECODER:
        inputs["decoder_input_ids"] = torch.randint(5, VOCAB, (3, 5), generator=generator)
    return Padded(inputs, lengths, left)


def unpadded(family: str) -> dict[str, Any]:
    batch = padded(family)
    inputs = dict(batch.inputs)
    inputs["input_ids"] = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, 17)
    inputs.pop("attention_mask")
    inputs.pop("position_ids", None)
    return inputs


def logits(model: Any, inputs: Mapping[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        found: Tensor = model(**inputs).logits
        return found


def nudge(parameters: Iterable[Tensor], seed: int = 3, size: float = 0.4) -> None:
    """Add the same noise to parameters every time."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_((size * noise).to(parameter.device, parameter.dtype))
