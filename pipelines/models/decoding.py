"""What of a checkpoint's generation_config counts: its special tokens, never its preferences.

How a text is searched is the run's (`task.num_beams`, `task.max_target_len`, `task.generation`), so that two
models are compared under one search. The checkpoint's own preferences (4 beams, at least 56 tokens, ...) are
set aside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel

# Which tokens a text begins with, ends with and never has.
STRUCTURAL = frozenset(
    {
        *("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"),
        *("forced_bos_token_id", "forced_eos_token_id"),
        *("bad_words_ids", "suppress_tokens", "begin_suppress_tokens"),
    }
)
FORCED = "forced_bos_token_id"  # is an entry of the generation_config alone
# What changes no text: how it is computed and what is returned beside it.
TECHNICAL = frozenset(
    {
        *("use_cache", "cache_implementation", "cache_config", "max_cache_len", "prefill_chunk_size"),
        *("output_attentions", "output_hidden_states", "output_scores", "output_logits"),
        *("return_dict_in_generate", "compile_config", "disable_compile", "low_memory", "is_assistant"),
        *("remove_invalid_values", "transformers_version", "_from_model_config"),
    }
)


def keep_special_tokens(model: PreTrainedModel, task_options: Mapping[str, Any]) -> None:
    """Set the preferences of a model's generation_config aside; `set_aside` names them.

    Args:
        task_options: entries that the task sets; those of special tokens replace the checkpoint's, so that
            `generate` of a saved model writes the language that it was trained to write.
    """
    stated = getattr(model, "generation_config", None)
    if stated is None:
        return
    values = {name: value for name, value in stated.to_dict().items() if value is not None}
    usual = GenerationConfig._get_default_generation_params()
    vars(model)["set_aside"] = {
        name: value
        for name, value in values.items()
        if name not in STRUCTURAL | TECHNICAL and value != usual.get(name)
    }
    values |= task_options
    model.generation_config = GenerationConfig(**{name: values[name] for name in STRUCTURAL & values.keys()})


def find_start_token(model: PreTrainedModel) -> int | None:
    """Return the token with which the decoder begins; set it in a config that does not state it.

    Then it is that of the generation_config, or the one that the model's own code takes (T5Gemma: the start
    of its decoder's config), which shows in the decoder input that it makes from labels.
    """
    config, stated = model.config, getattr(model, "generation_config", None)
    found: int | None = getattr(config, "decoder_start_token_id", None)
    if found is None and stated is not None:
        found = stated.decoder_start_token_id
    if found is None:
        found = _first_of_decoder(model)
    if found is not None:
        config.decoder_start_token_id = found
    return found


def _first_of_decoder(model: Any) -> int | None:
    """Return what the model's own code puts before any labels; None where it follows from them (mBART)."""
    names = ("prepare_decoder_input_ids_from_labels", "_shift_right")
    shift = next((getattr(model, name) for name in names if hasattr(model, name)), None)
    if shift is None:
        return None
    labels = [[label] for label in range(3) if label != model.config.pad_token_id]
    try:
        found = set(shift(torch.tensor(labels))[:, 0].tolist())
    except (AttributeError, TypeError, ValueError):  # the model has none
        return None
    return int(found.pop()) if len(found) == 1 else None


def set_aside(model: PreTrainedModel) -> dict[str, Any]:
    """Return the preferences of a checkpoint that `build_model` set aside, with their values."""
    found: dict[str, Any] = vars(model).get("set_aside", {})
    return found
