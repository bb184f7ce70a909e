"""Fit a tokenizer to the model that reads its ids: the longest input, token types, padding."""

from __future__ import annotations

import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from pipelines.config.load import ModelConfig
from pipelines.errors import UserError
from pipelines.models.build import (
    config_errors_as_user_errors,
    parts_of,
    set_special_tokens,
    stated_config,
)

# Entries of a config that state the longest input.
LIMITS = ("max_position_embeddings", "max_encoder_position_embeddings", "max_seq_len")


def fit_to_model(tokenizer: PreTrainedTokenizerBase, spec: ModelConfig) -> None:
    """Change a tokenizer so that the model can read all it gives.

    Its longest input becomes the model's where that is shorter, or where the tokenizer states none. It gives
    token types only if the model has two of them. Without a pad token it pads with that of the config, else
    with its end token, else with its first token: padding is masked, so the choice changes no output.

    Raises:
        UserError: the model's config cannot be read or built, an entry of `model.config` is unknown, or the
            longest input that the tokenizer states is none.
    """
    _require_length(tokenizer)
    config = stated_config(spec)
    if tokenizer.pad_token_id is None:
        _give_padding(tokenizer, config)
    set_special_tokens(config, tokenizer, keep=spec.name is not None)
    parts = parts_of(config)
    with config_errors_as_user_errors(spec):
        stated = [_positions(part, tokenizer.model_max_length) for part in parts]
    limits = [limit for limit in stated if limit is not None]
    tokenizer.model_max_length = min([tokenizer.model_max_length, *limits])
    if not all(_token_types(part) >= 2 for part in parts):
        names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
        tokenizer.model_input_names = names


def _require_length(tokenizer: PreTrainedTokenizerBase) -> None:
    longest: object = tokenizer.model_max_length
    if not isinstance(longest, int | float) or longest < 1:
        fix = "correct it in tokenizer_config.json, or take it out: then the model's config states it"
        raise UserError("model_max_length of the tokenizer", "is no number of tokens", repr(longest), fix)


def _token_types(config: PreTrainedConfig) -> int:
    return int(getattr(config, "type_vocab_size", None) or 0)


def _positions(config: PreTrainedConfig, most: int) -> int | None:
    """Return the tokens that a model has positions for; None where its config states no limit (T5)."""
    stated = (getattr(config, name, None) for name in LIMITS)
    positions = next((value for value in stated if isinstance(value, int) and value > 0), None)
    padding = getattr(config, "pad_token_id", None)
    if positions is None or not isinstance(padding, int) or most <= positions - padding - 1:
        return positions
    return positions - padding - 1 if _counts_from_padding(config) else positions


def _counts_from_padding(config: PreTrainedConfig) -> bool:
    """Whether positions count from the one after the pad token's id, as in RoBERTa, so that few are lost.

    Such a model has a table of positions with a row for padding.
    """
    if type(config) not in transformers.MODEL_MAPPING:
        return False
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config)
    tables = (getattr(module, "position_embeddings", None) for module in model.modules())
    return any(getattr(table, "padding_idx", None) is not None for table in tables)


def _give_padding(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
    stated = getattr(config, "pad_token_id", None)
    known = isinstance(stated, int) and 0 <= stated < len(tokenizer)
    token = stated if known else tokenizer.eos_token_id
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0 if token is None else token)
