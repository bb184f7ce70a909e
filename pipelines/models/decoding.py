"""What of a checkpoint's generation_config counts: its special tokens, never its preferences.

How a text is searched is the run's (`task.num_beams`, `task.max_target_len`, `task.generation`), so that two
models are compared under one search. The checkpoint's own preferences (4 beams, at least 56 tokens, ...) are
set aside.
"""

from __future__ import annotations

from typing import Any

from transformers import GenerationConfig, PreTrainedModel

# Which tokens a text begins with, ends with and never has.
STRUCTURAL = frozenset(
    {
        *("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"),
        *("forced_bos_token_id", "forced_eos_token_id"),
        *("bad_words_ids", "suppress_tokens", "begin_suppress_tokens"),
    }
)
# What changes no text: how it is computed and what is returned beside it.
TECHNICAL = frozenset(
    {
        *("use_cache", "cache_implementation", "cache_config", "max_cache_len", "prefill_chunk_size"),
        *("output_attentions", "output_hidden_states", "output_scores", "output_logits"),
        *("return_dict_in_generate", "compile_config", "disable_compile", "low_memory", "is_assistant"),
        *("remove_invalid_values", "transformers_version", "_from_model_config"),
    }
)


def keep_special_tokens(model: PreTrainedModel) -> None:
    """Set the preferences of a model's generation_config aside; `set_aside` names them.

    A start token that only the generation_config states becomes that of the config.
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
    model.generation_config = GenerationConfig(**{name: values[name] for name in STRUCTURAL & values.keys()})
    if getattr(model.config, "decoder_start_token_id", None) is None:
        model.config.decoder_start_token_id = values.get("decoder_start_token_id")


def set_aside(model: PreTrainedModel) -> dict[str, Any]:
    """Return the preferences of a checkpoint that `build_model` set aside, with their values."""
    found: dict[str, Any] = vars(model).get("set_aside", {})
    return found
