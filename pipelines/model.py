"""Tokenizer and model of a run: one table from (task head, model family) to the class."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import transformers

from pipelines.config import ModelConfig, RunConfig
from pipelines.encoder_pair import EncoderPair
from pipelines.errors import UserError
from pipelines.randomness import derive
from pipelines.tokenizer import train_tokenizer

# The only place that knows which class does which job. Keyed by what a task needs and what a family is,
# never by architecture: a new architecture is a YAML.
MODEL_CLASSES: Mapping[tuple[str, str], str] = {
    ("token_classification", "encoder"): "AutoModelForTokenClassification",
    ("token_classification", "decoder"): "AutoModelForTokenClassification",
    ("token_classification", "encoder_decoder"): "AutoModelForTokenClassification",
    ("text_to_text", "encoder"): "EncoderPair",
    ("text_to_text", "decoder"): "AutoModelForCausalLM",
    ("text_to_text", "encoder_decoder"): "AutoModelForSeq2SeqLM",
    ("language_modelling", "encoder"): "AutoModelForMaskedLM",
    ("language_modelling", "decoder"): "AutoModelForCausalLM",
    ("language_modelling", "encoder_decoder"): "AutoModelForSeq2SeqLM",
    ("sequence_classification", "encoder"): "AutoModelForSequenceClassification",
    ("sequence_classification", "decoder"): "AutoModelForSequenceClassification",
    ("sequence_classification", "encoder_decoder"): "AutoModelForSequenceClassification",
    ("question_answering", "encoder"): "AutoModelForQuestionAnswering",
    ("question_answering", "decoder"): "AutoModelForQuestionAnswering",
    ("question_answering", "encoder_decoder"): "AutoModelForQuestionAnswering",
}
OWN_CLASSES: Mapping[str, Any] = {"EncoderPair": EncoderPair}
# What a tokenizer calls the token with which a text begins, or ends, where it has no bos or eos.
SPECIAL_TOKENS = {"pad": ("pad",), "bos": ("bos", "cls"), "eos": ("eos", "sep")}


def load_processor(config: RunConfig, texts: Iterator[str]) -> Any:
    """The model's own tokenizer, or for a model from scratch one trained on `texts`.

    Raises:
        UserError: the folder or Hub id has no tokenizer that can be loaded.
    """
    source = config.model.tokenizer or config.model.name
    if source is None:
        processor = train_tokenizer(config.model.family, texts, config.model.vocab_size)
        positions = getattr(_known_config(config.model), "max_position_embeddings", None)
        processor.model_max_length = positions or processor.model_max_length
        return processor
    try:
        return transformers.AutoTokenizer.from_pretrained(
            source, revision=config.model.revision, use_fast=True, add_prefix_space=True
        )
    except (OSError, ValueError) as error:
        raise _cannot_load("tokenizer", source, error) from error


def build_model(
    config: RunConfig, head: str, processor: Any, task_options: Mapping[str, Any]
) -> torch.nn.Module:
    """The model of a run with stock attention, in float32.

    Whatever is drawn (a scratch model, a new head) comes from the run's "init" stream, so every arm
    of a seed starts from the same weights.

    Raises:
        UserError: no class for this task and family, unknown config entries, or unreadable weights.
    """
    model_class = _model_class(head, config.model.family)
    torch.manual_seed(derive(config.seed, "init"))
    if config.model.name is None:
        return model_class.from_config(_scratch_config(config.model, processor, task_options))
    try:
        model_config = transformers.AutoConfig.from_pretrained(
            config.model.name, revision=config.model.revision, **task_options
        )
        _override(model_config, config.model)
        _set_special_tokens(model_config, processor, keep=True)
        return model_class.from_pretrained(
            config.model.name, config=model_config, revision=config.model.revision, dtype=torch.float32
        )
    except (OSError, ValueError) as error:
        raise _cannot_load("model", config.model.name, error) from error


def _model_class(head: str, family: str) -> Any:
    name = MODEL_CLASSES.get((head, family))
    if name is None:
        families = sorted(f for h, f in MODEL_CLASSES if h == head)
        raise UserError(
            "model.family", f"no model for a {head} task", family, f"accepted: {', '.join(families)}"
        )
    return OWN_CLASSES.get(name) or getattr(transformers, name)


def _known_config(model: ModelConfig) -> Any:
    """The config of an architecture with the entries that the run changes."""
    try:
        config = transformers.AutoConfig.for_model(model.architecture)
    except ValueError as error:
        known = sorted(transformers.CONFIG_MAPPING.keys())
        close = difflib.get_close_matches(str(model.architecture), known, 3)
        hint = f"did you mean {', '.join(close)}?" if close else "see transformers' list of model types"
        raise UserError("model.architecture", "unknown model type", model.architecture, hint) from error
    _override(config, model)
    # Built with them, so that what follows from an entry does (T5's decoder layers, Llama's head size).
    return transformers.AutoConfig.for_model(model.architecture, **model.config)


def _scratch_config(model: ModelConfig, processor: Any, task_options: Mapping[str, Any]) -> Any:
    config = _known_config(model)
    config.vocab_size = len(processor)
    _set_special_tokens(config, processor, keep=False)
    if config.is_encoder_decoder:
        config.decoder_start_token_id = processor.pad_token_id
    for name, value in task_options.items():
        setattr(config, name, value)
    _override(config, model)
    return config


def _set_special_tokens(config: Any, processor: Any, *, keep: bool) -> None:
    """Tell the config the tokenizer's special tokens; `keep` those it has."""
    for name, candidates in SPECIAL_TOKENS.items():
        found = (getattr(processor, f"{candidate}_token_id") for candidate in candidates)
        token = next((token for token in found if token is not None), None)
        if not keep or getattr(config, f"{name}_token_id", None) is None:
            setattr(config, f"{name}_token_id", token)


def _override(config: Any, model: ModelConfig) -> None:
    """Set `model.config` entries, each of which the architecture must know."""
    for name, value in model.config.items():
        if not hasattr(config, name):
            close = difflib.get_close_matches(name, list(config.to_dict()), 3)
            raise UserError(
                f"model.config.{name}",
                f"{type(config).__name__} has no such entry",
                accepted=f"did you mean {', '.join(close)}?" if close else "see the model's documentation",
            )
        setattr(config, name, value)


def _cannot_load(what: str, source: str, error: Exception) -> UserError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UserError(
        "model.name",
        f"the {what} cannot be loaded: {reason}",
        source,
        "give a folder that holds it, or a Hub id while the Hub can be reached",
    )
