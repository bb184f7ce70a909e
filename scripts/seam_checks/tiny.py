"""Tiny models of any type transformers knows, from their configs: sizes are shrunk by the names of fields."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import torch
import transformers as hf
from transformers.models.auto import configuration_auto, modeling_auto

VOCABULARY = 99
# The first pattern that matches the whole name of an integer field decides; nothing grows.
SIZES: list[tuple[str, int]] = [
    (r"num_feat_extract_layers", 99),  # as many as there are kernel sizes
    (r".*vocab_size.*", VOCABULARY),
    (r"(num_key_value_heads|num_kv_heads|n_kv_heads|multi_query_group_num|.*_key_value_heads)", 2),
    (r"(.*attention_heads|.*num_heads|n_heads?|.*_n_heads?|heads|.*_num_head)", 4),
    (
        r"(attention_)?head_dim|d_kv|d_head|kv_channels|qk_nope_head_dim|qk_rope_head_dim|v_head_dim|.*_head_dim",
        8,
    ),
    (r"(q|kv)_lora_rank", 16),
    (r"(num_)?.*layers|n_layers?|depth|.*num_blocks|num_hidden_groups|.*_depth", 2),
    (r".*(num|n)_.*experts_per_tok(en)?|.*top_k|moe_topk|moe_k|num_selected_experts", 2),
    (r"rotary_dim", 4),
    (r".*(num|n)_(.*_)?experts|num_local_experts|moe_num_experts", 4),
    (r"n_group|topk_group|num_expert_group", 1),
    (
        r".*intermediate_(size|dim)|d_ff|.*ffn_dim|n_inner|ffn_.*size|.*mlp_dim|d_inner|feed_forward.*size|dff",
        48,
    ),
    (r".*hidden_(size|dim)|d_model|n_embd|n_embed|dim|.*embed(ding)?_(dim|size)|width|.*_width|d_embed", 32),
    (r"projection_dim|.*_projection_dim|.*_proj_dim|fusion_hidden_size", 32),
    (r"(image|img|input|crop)_size|.*_image_size", 32),
    (r".*patch_size", 8),
    (r"max_source_positions", 20),
    (r"max_length", 64),
    (r"sliding_window|attention_window|window_size|local_attention", 4),
    (r"num_codebooks|num_conv_pos_embeddings", 4),
    (r"num_conv_pos_embedding_groups", 2),
    (r"max_position_embeddings|n_positions|.*_positions|max_seq_len|seq_length", 128),
    (r"num_queries|num_query_tokens|.*_latents|num_labels", 8),
]
# What no name tells: fields that must fit others in ways of their own.
HYBRID = {"layers_block_type": ["linear_attention", "full_attention"], "n_groups": 2}
DECODING = {"decoder.is_decoder": True, "decoder.add_cross_attention": True}
HINTS: dict[str, dict[str, Any]] = {
    "autoformer": {"prediction_length": 6},
    "bert-generation": {"is_decoder": True},
    "encoder-decoder": DECODING,
    "informer": {"prediction_length": 6},
    "mobilebert": {"true_hidden_size": 32, "intra_bottleneck_size": 32, "embedding_size": 32},
    "esm": {"pad_token_id": 1, "mask_token_id": 2},
    "lilt": {"hidden_size": 24, "channel_shrink_ratio": 1},  # six coordinates share it
    "moonshine": {"encoder_num_key_value_heads": 4, "decoder_num_key_value_heads": 4},
    "speech-encoder-decoder": DECODING,
    "time_series_transformer": {"prediction_length": 6},
    "vision-encoder-decoder": DECODING,
    "xmod": {"default_language": "en_XX"},
    "nemo_speechlm": {f"text_config.{name}": value for name, value in HYBRID.items()},
    "nemotron_h": HYBRID,
    "neomme": {"head_dim": 32},  # a quarter of it is rotated, in pairs of two axes
    "nemotron": {"num_key_value_heads": 4},
    "videoprism": {"vision_config.tubelet_size": (1, 8, 8)},
    "videoprism_vision_model": {"tubelet_size": (1, 8, 8)},
    "vjepa2": {"frames_per_clip": 4},
}
# The class that shows most of a model: a decoder with its head where there is one, else the plain model.
PREFERRED = ("SEQ_TO_SEQ_CAUSAL_LM", "SPEECH_SEQ_2_SEQ", "CAUSAL_LM", "", "IMAGE_TEXT_TO_TEXT")


def model_types() -> list[str]:
    return sorted(configuration_auto.CONFIG_MAPPING_NAMES)


def model_class(model_type: str) -> Any:
    """The class that stands for a model type: an auto class, else the first model of its file with such a
    config, as the towers of larger models have."""
    tables = {name: table for name, table in vars(modeling_auto).items() if name.endswith("_MAPPING_NAMES")}
    tables.pop("CONFIG_MAPPING_NAMES")
    encoders = tables["MODEL_FOR_MASKED_LM_MAPPING_NAMES"]  # some can be run as decoders, which they are not
    preferred = [f"MODEL_FOR_{kind}_MAPPING_NAMES".replace("_FOR__", "_") for kind in PREFERRED]
    config_class = hf.CONFIG_MAPPING[model_type]
    headless = model_type in encoders or "text_config" in config_class.sub_configs
    for name in [*preferred, *tables]:
        if model_type in tables[name] and not (name == "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES" and headless):
            found = tables[name][model_type]
            return getattr(hf, found if isinstance(found, str) else found[0])
    package = config_class.__module__.rpartition(".")
    modeling = importlib.import_module(f"{package[0]}.{package[2].replace('configuration_', 'modeling_')}")
    for value in vars(modeling).values():
        is_model = inspect.isclass(value) and issubclass(value, hf.PreTrainedModel)
        if is_model and value.config_class is config_class and not value.__name__.endswith("PreTrainedModel"):
            return value
    raise LookupError(f"no model class takes {config_class.__name__}")


def tiny(model_type: str) -> hf.PreTrainedModel:
    """A model of this type with two layers of width 32, in evaluation mode, random weights large enough for
    attention to matter."""
    config = shrunk(hf.CONFIG_MAPPING[model_type], HINTS.get(model_type, {}))
    torch.manual_seed(0)
    cls = model_class(model_type)
    model: hf.PreTrainedModel = cls._from_config(config, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() in (2, 4) and "embed" not in name:  # linear maps and convolutions
                parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
            elif not parameter.any():  # biases, and factors that would silence what they multiply
                parameter.normal_(0, 0.2, generator=generator)
    return model


def shrunk(config_class: type, hints: dict[str, Any]) -> Any:
    """The config with small sizes, its inner configs too. `hints` override; a dotted key reaches an inner
    config."""
    default = config_class()
    layers = getattr(default, "num_hidden_layers", None) or 0
    changes: dict[str, Any] = {}
    for name, value in vars(default).items():
        if name in getattr(config_class, "sub_configs", {}) and value is not None:
            inner = {
                k.partition(".")[2]: v for k, v in hints.items() if k.partition(".")[0] == name and "." in k
            }
            changes[name] = shrunk(type(value), inner)
        elif getattr(config_class, "attribute_map", {}).get(name, name) != name:
            continue  # another name of a field
        elif isinstance(value, (list, tuple)) and len(value) == layers > 2:
            changes[name] = type(value)(_small(name, v) for v in value[:2])
        elif (small := _small(name, value)) != value:
            changes[name] = small
    kinds = list(dict.fromkeys(vars(default).get("layer_types") or ()))
    if len(kinds) > 1:  # two layers, one of each kind
        changes["layer_types"] = kinds[-2:]
    heads = default.__dict__.get("num_attention_heads")
    for name in ("num_key_value_heads", "num_kv_heads"):
        groups = default.__dict__.get(name)
        if isinstance(groups, int):
            changes[name] = 4 if groups == heads else min(2, groups)
    changes |= {k: v for k, v in hints.items() if "." not in k}
    return config_class(**changes)


def _small(name: str, value: Any) -> Any:
    if isinstance(value, bool) or name.startswith("_"):
        return value
    if value is None:
        return {"head_dim": 8, "vocab_size": VOCABULARY, "num_experts_per_tok": 2}.get(name)
    if isinstance(value, dict) and ("mrope_section" in value or "rope_type" in value):
        return value | {"mrope_section": [2, 1, 1]}  # of the 4 frequencies of a head of 8
    if name.endswith("_token_id") or name.endswith("_token_index"):
        if isinstance(value, int) and value >= VOCABULARY:
            return VOCABULARY - 1 - sum(map(ord, name)) % 20
        if isinstance(value, (list, tuple)):
            return [min(v, VOCABULARY - 1) for v in value if isinstance(v, int)]
        return value
    for pattern, size in SIZES:
        if re.fullmatch(pattern, name):
            if isinstance(value, int):
                return min(size, value) if value > 0 else value
            size = 2 if isinstance(value, (list, tuple)) and "head" in name else size
            if isinstance(value, (list, tuple)) and value and all(type(v) is int for v in value):
                return type(value)(min(size, v) for v in value)
            return value
    return value
