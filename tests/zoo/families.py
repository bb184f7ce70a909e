"""The families of the zoo: for each one its config, its tokenizer, and the tasks that its classes have."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.zoo import trained_tokenizers as made
from tests.zoo.texts import CLASSES, LABELS

READING = ("ner", "question_answering", "text_classification")
WRITING = ("summarization", "translation", "generative_question_answering")
TASKS = (*READING, *WRITING, "language_modelling")

ENCODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 130,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
BART = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 128,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
}
T5 = {"d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0}
LLAMA = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "classifier_dropout": 0.0,
}
GEMMA = {**LLAMA, "head_dim": 16, "query_pre_attn_scalar": 16, "dropout_rate": 0.0, "attention_dropout": 0.0}
del GEMMA["classifier_dropout"]
VISION = {"hidden_size": 12, "intermediate_size": 13, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION |= {"image_size": 16, "patch_size": 8}
HEADS = {
    "ner": "AutoModelForTokenClassification",
    "question_answering": "AutoModelForQuestionAnswering",
    "text_classification": "AutoModelForSequenceClassification",
}
LANGUAGE_HEADS = {
    "encoder": "AutoModelForMaskedLM",
    "decoder": "AutoModelForCausalLM",
    "encoder_decoder": "AutoModelForSeq2SeqLM",
}
NAMES = {"ner": LABELS, "text_classification": CLASSES}


@dataclass(frozen=True)
class Family:
    """How checkpoints of one family look.

    Attributes:
        reads: the family as attnlab calls it.
        config: entries of the config that are not those of the published checkpoints, which are larger.
        quirks: entries that published checkpoints have; a text means the id of that token.
        languages: codes of the source and the target language, where the tokenizer has them.
    """

    reads: str
    model_type: str
    tokenizer: Callable[..., Any]
    config: Mapping[str, Any]
    tasks: tuple[str, ...]
    quirks: Mapping[str, Any] = field(default_factory=dict)
    tokenizer_options: Mapping[str, Any] = field(default_factory=dict)
    languages: tuple[str, str] | None = None


def _encoder(
    model_type: str, tokenizer: Any, tasks: tuple[str, ...] = (*READING, "language_modelling"), **options: Any
) -> Family:
    config = {**ENCODER, **options.pop("config", {})}
    return Family("encoder", model_type, tokenizer, config, tasks, **options)


def _decoder(model_type: str, tokenizer: Any, config: Mapping[str, Any], **options: Any) -> Family:
    return Family("decoder", model_type, tokenizer, config, options.pop("tasks", TASKS), **options)


def _pair(
    model_type: str, tokenizer: Any, config: Mapping[str, Any], tasks: tuple[str, ...], **options: Any
) -> Family:
    return Family("encoder_decoder", model_type, tokenizer, config, tasks, **options)


_ROBERTA = {"pad_token_id": "<pad>", "bos_token_id": "<s>", "eos_token_id": "</s>"}
_BART = {**_ROBERTA, "decoder_start_token_id": "</s>", "forced_eos_token_id": "</s>"}
_DISTIL = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48, "max_position_embeddings": 128}
_DISTIL |= {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0, "qa_dropout": 0.0}
_GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128}
_GPT2 |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "classifier_dropout": 0.0}
_OPT = {"hidden_size": 32, "word_embed_proj_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_OPT |= {"ffn_dim": 48, "max_position_embeddings": 128, "dropout": 0.0}
_BLOOM = {"hidden_size": 32, "n_layer": 2, "n_head": 2, "hidden_dropout": 0.0, "attention_dropout": 0.0}
_MODERN = {
    "global_attn_every_n_layers": 2,
    "local_attention": 16,
    "embedding_dropout": 0.0,
    "mlp_dropout": 0.0,
}
_MODERN |= {"attention_dropout": 0.0, "classifier_dropout": 0.0}
_LED = {**BART, "max_encoder_position_embeddings": 128, "max_decoder_position_embeddings": 128}
_LED |= {"attention_window": 8}
del _LED["max_position_embeddings"]
_T5 = {"decoder_start_token_id": "<pad>", "pad_token_id": "<pad>", "eos_token_id": "</s>"}
_SPECIALS = {"cls_token_id": "[CLS]", "sep_token_id": "[SEP]", "pad_token_id": "[PAD]"}
_MODERN_SPECIALS = {**_SPECIALS, "bos_token_id": "[CLS]", "eos_token_id": "[SEP]"}

FAMILIES: Mapping[str, Family] = {
    "bert": _encoder("bert", made.bert),
    "minilm": _encoder("bert", made.bert, config={"num_hidden_layers": 3, "layer_norm_eps": 1e-12}),
    "roberta": _encoder("roberta", made.roberta, quirks={**_ROBERTA, "type_vocab_size": 1}),
    "xlm-roberta": _encoder("xlm-roberta", made.xlm_roberta, quirks={**_ROBERTA, "type_vocab_size": 1}),
    "camembert": _encoder("camembert", made.camembert, quirks={**_ROBERTA, "type_vocab_size": 1}),
    "klue-roberta": _encoder(
        "roberta",
        made.bert,
        quirks={
            "type_vocab_size": 1,
            "pad_token_id": "[PAD]",
            "bos_token_id": "[CLS]",
            "eos_token_id": "[SEP]",
        },
    ),
    "distilbert": Family("encoder", "distilbert", made.bert, _DISTIL, (*READING, "language_modelling")),
    "electra": _encoder("electra", made.bert, config={"embedding_size": 16}),
    "albert": _encoder(
        "albert",
        made.albert,
        config={"embedding_size": 16},
        quirks={
            "pad_token_id": "<pad>",
            "bos_token_id": "[CLS]",
            "eos_token_id": "[SEP]",
            "classifier_dropout_prob": 0.0,
        },
    ),
    "deberta-v3": _encoder(
        "deberta-v2",
        made.deberta,
        quirks={
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "type_vocab_size": 0,
        },
    ),
    "mpnet": _encoder("mpnet", made.mpnet, quirks=_ROBERTA),
    "modernbert": _encoder("modernbert", made.modernbert, config=_MODERN, quirks=_MODERN_SPECIALS),
    "longformer": _encoder(
        "longformer",
        made.roberta,
        config={"attention_window": [8, 8]},
        quirks={**_ROBERTA, "sep_token_id": "</s>", "type_vocab_size": 1},
    ),
    "gpt2": _decoder(
        "gpt2", made.gpt2, _GPT2, quirks={"bos_token_id": "<|endoftext|>", "eos_token_id": "<|endoftext|>"}
    ),
    "opt": _decoder(
        "opt",
        made.opt,
        _OPT,
        quirks={"bos_token_id": "</s>", "eos_token_id": "</s>", "pad_token_id": "<pad>"},
        tasks=tuple(task for task in TASKS if task != "ner"),
    ),
    "llama": _decoder("llama", made.llama, LLAMA, quirks={"bos_token_id": "<s>", "eos_token_id": "</s>"}),
    "qwen": _decoder("qwen2", made.qwen, LLAMA, quirks={"eos_token_id": "<|endoftext|>"}),
    "bloom": _decoder("bloom", made.bloom, _BLOOM, quirks=_ROBERTA),
    "t5": _pair("t5", made.t5, T5, TASKS, quirks=_T5),
    "mt5": _pair("mt5", made.t5, {**T5, "feed_forward_proj": "gated-gelu"}, TASKS, quirks=_T5),
    "byt5": _pair("t5", made.byt5, T5, TASKS, quirks=_T5),
    "bart": _pair(
        "bart",
        made.roberta,
        BART,
        (*READING[1:], *WRITING, "language_modelling"),
        quirks={**_BART, "forced_bos_token_id": "<s>"},
    ),
    "mbart-50": _pair(
        "mbart",
        made.mbart50,
        BART,
        ("translation",),
        quirks=_BART,
        tokenizer_options={"src_lang": "en_XX"},
        languages=("en_XX", "de_DE"),
    ),
    "nllb": _pair(
        "m2m_100",
        made.nllb,
        BART,
        ("translation",),
        quirks={**_ROBERTA, "decoder_start_token_id": "</s>"},
        languages=("eng_Latn", "deu_Latn"),
    ),
    "m2m100": _pair(
        "m2m_100",
        made.m2m100,
        BART,
        ("translation",),
        quirks={**_ROBERTA, "decoder_start_token_id": "</s>"},
        tokenizer_options={"src_lang": "en"},
        languages=("en", "de"),
    ),
    "marian": _pair(
        "marian",
        made.marian,
        BART,
        WRITING,
        quirks={
            "pad_token_id": "<pad>",
            "eos_token_id": "</s>",
            "decoder_start_token_id": "<pad>",
            "forced_eos_token_id": "</s>",
            "bos_token_id": None,
            "bad_words_ids": [["<pad>"]],
        },
    ),
    "pegasus": _pair(
        "pegasus",
        made.pegasus,
        BART,
        WRITING,
        quirks={
            "pad_token_id": "<pad>",
            "eos_token_id": "</s>",
            "decoder_start_token_id": "<pad>",
            "forced_eos_token_id": "</s>",
            "bos_token_id": None,
        },
    ),
    "led": _pair("led", made.roberta, _LED, ("question_answering", *WRITING), quirks=_BART),
    "t5gemma": _pair("t5gemma", made.gemma, GEMMA, ("ner", "text_classification", *WRITING)),
    "t5gemma2": _pair(
        "t5gemma2",
        made.gemma,
        {**GEMMA, "sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]},
        ("ner", "text_classification", *WRITING),
        quirks={"pad_token_id": "<pad>", "bos_token_id": "<bos>", "eos_token_id": "<eos>"},
    ),
    "bert2bert": _pair("encoder-decoder", made.bert, ENCODER, WRITING),
}
NEEDS_SENTENCEPIECE = ("marian", "m2m100")
CELLS = tuple((name, task) for name, family in FAMILIES.items() for task in family.tasks)


def save(family: Family, task: str, folder: Path) -> Path:
    """Write a checkpoint with drawn weights and the head of a task."""
    folder.mkdir(parents=True, exist_ok=True)
    options = dict(family.tokenizer_options)
    if "folder" in inspect.signature(family.tokenizer).parameters:
        options["folder"] = folder
    tokenizer = family.tokenizer(**options)
    tokenizer.save_pretrained(folder)
    config = _config(family, tokenizer)
    names = NAMES.get(task)
    if names:
        config.id2label = dict(enumerate(names))
        config.label2id = {name: number for number, name in enumerate(names)}
    head = HEADS.get(task) or LANGUAGE_HEADS[family.reads]
    model = getattr(transformers, head).from_config(config)
    draw(model)
    model.save_pretrained(folder)
    return folder


def _config(family: Family, tokenizer: Any) -> Any:
    size = num_ids(tokenizer)
    quirks = {
        name: _ids(value, tokenizer) if name.endswith(("_id", "_ids")) else value
        for name, value in family.quirks.items()
    }
    if family.model_type == "encoder-decoder":
        one = transformers.BertConfig(vocab_size=size, **family.config)
        other = transformers.BertConfig(
            vocab_size=size, is_decoder=True, add_cross_attention=True, **family.config
        )
        config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(one, other)
        config.decoder_start_token_id, config.pad_token_id = tokenizer.cls_token_id, tokenizer.pad_token_id
        config.eos_token_id = tokenizer.sep_token_id
        return config
    if family.model_type == "t5gemma":
        part = transformers.T5GemmaModuleConfig(vocab_size=size, **family.config)
        return transformers.T5GemmaConfig(
            encoder=part.to_dict(),
            decoder=part.to_dict(),
            vocab_size=size,
            dropout_rate=0.0,
            classifier_dropout_rate=0.0,
        )
    if family.model_type == "t5gemma2":
        part = {**family.config, **quirks, "vocab_size": size}
        image = {"image_token_index": size - 1, "eoi_token_index": size - 2}
        return transformers.T5Gemma2Config(
            encoder={"text_config": dict(part), "vision_config": VISION, "mm_tokens_per_image": 4, **image},
            decoder=dict(part),
            decoder_start_token_id=quirks["bos_token_id"],
            dropout_rate=0.0,
            classifier_dropout_rate=0.0,
            **image,
        )
    return transformers.AutoConfig.for_model(
        family.model_type, **{"vocab_size": size, **family.config, **quirks}
    )


def _ids(value: Any, tokenizer: Any) -> Any:
    if isinstance(value, list):
        return [_ids(part, tokenizer) for part in value]
    return tokenizer.convert_tokens_to_ids(value) if isinstance(value, str) else value


def num_ids(tokenizer: Any) -> int:
    """Return the rows that the embedding needs: M2M100 keeps its languages outside of its length."""
    languages = getattr(tokenizer, "lang_code_to_id", {}).values()
    return max([len(tokenizer), *(number + 1 for number in languages)])


@torch.no_grad()
def draw(model: torch.nn.Module, seed: int = 0) -> None:
    """Draw weights large enough that one other token changes what the model writes."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
