"""The model of a run: one table from (task head, model family) to the class."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import transformers

from pipelines.config.load import ModelConfig, RunConfig
from pipelines.errors import UserError
from pipelines.hub.fetch import model_source
from pipelines.models.direction import require_direction
from pipelines.models.encoder_pair import EncoderPair
from pipelines.seeds import derive

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
    ("image_classification", "encoder"): "AutoModelForImageClassification",
    ("audio_classification", "encoder"): "AutoModelForAudioClassification",
    ("forecasting", "encoder"): "PatchTSTForPrediction",  # no Auto class has it
}
OWN_CLASSES: Mapping[str, Any] = {"EncoderPair": EncoderPair}
NO_CLASS = "Unrecognized configuration class"  # what an Auto class says of a config that it has no class for
# What a tokenizer calls the token with which a text begins, or ends, where it has no bos or eos.
SPECIAL_TOKENS = {"pad": ("pad",), "bos": ("bos", "cls"), "eos": ("eos", "sep")}


def build_model(
    config: RunConfig, head: str, processor: Any, task_options: Mapping[str, Any]
) -> torch.nn.Module:
    """The model of a run with stock attention, in float32.

    Whatever is drawn (a scratch model, a new head) comes from the run's "init" stream, so every arm
    of a seed starts from the same weights. `model.drawn_parameters` names what is drawn.

    Raises:
        UserError: no class for this task and family, config entries that are unknown or do not fit,
            unreadable weights, or a model that is not of the family it is said to be.
    """
    model_class = _model_class(head, config.model.family)
    torch.manual_seed(derive(config.seed, "init"))
    build = _from_scratch if config.model.name is None else _pretrained
    with _entries_that_fit(config.model):
        model = build(model_class, head, config.model, processor, task_options)
    if isinstance(processor, transformers.PreTrainedTokenizerBase):
        require_direction(model, config.model.family)
    return model


def _from_scratch(
    model_class: Any, head: str, asked: ModelConfig, processor: Any, task_options: Mapping[str, Any]
) -> torch.nn.Module:
    model_config = _scratch_config(asked, processor, task_options)
    try:
        model = _untrained(model_class, model_config)
    except ValueError as error:
        if NO_CLASS in str(error):
            raise _no_class(head, model_config) from error
        raise
    model.drawn_parameters = frozenset(name for name, _ in model.named_parameters())
    return model


def _pretrained(
    model_class: Any, head: str, asked: ModelConfig, processor: Any, task_options: Mapping[str, Any]
) -> torch.nn.Module:
    source = model_source(asked.name)
    try:
        model_config = transformers.AutoConfig.from_pretrained(
            source, revision=asked.revision, **task_options
        )
        _override(model_config, asked)
        if isinstance(processor, transformers.PreTrainedTokenizerBase):
            _set_special_tokens(model_config, processor, keep=True)
        model, loading = model_class.from_pretrained(
            source,
            config=model_config,
            revision=asked.revision,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except (OSError, ValueError) as error:
        if NO_CLASS in str(error):
            raise _no_class(head, model_config) from error
        raise cannot_load("model", asked.name, error) from error
    other_sizes = {name for name, *_ in loading["mismatched_keys"]}
    _require_in_head(model, other_sizes, asked.name)
    model.drawn_parameters = frozenset({*loading["missing_keys"], *other_sizes})
    return model


@contextmanager
def _entries_that_fit(asked: ModelConfig) -> Iterator[None]:
    """What transformers or torch say against sizes and names that fit nothing becomes a sentence.

    Each architecture checks its entries in its own way, or trips over them: any error of theirs is meant.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if asked.name is not None and not asked.config:
            raise
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        what = f"{asked.architecture or asked.name} cannot be built with these entries ({said})"
        raise UserError("model.config", what, dict(asked.config), "change the entry that it names") from error


def _untrained(model_class: Any, config: Any) -> torch.nn.Module:
    """A model with drawn weights, of an Auto class, of our own, or of one architecture's class.

    Raises:
        ValueError: it has no form of this architecture.
    """
    own = getattr(model_class, "config_class", None)
    if own is None:
        return model_class.from_config(config)
    if not isinstance(config, own):
        raise ValueError(NO_CLASS)
    return model_class(config)


def _require_in_head(model: torch.nn.Module, names: set[str], source: str) -> None:
    """Weights of another size than the config says are drawn in a head, for other labels; nowhere else."""
    body = model.base_model
    inside = {id(parameter) for parameter in body.parameters()}
    odd = sorted(name for name in names if body is model or id(model.get_parameter(name)) in inside)
    if odd:
        what = f"the config does not fit the weights: {', '.join(odd[:3])} has another size there"
        raise UserError("model.config", what, source, "leave out the entries that change a size")


def _model_class(head: str, family: str) -> Any:
    name = MODEL_CLASSES.get((head, family))
    if name is None:
        families = sorted(f for h, f in MODEL_CLASSES if h == head)
        raise UserError(
            "model.family", f"no model for a {head} task", family, f"accepted: {', '.join(families)}"
        )
    return OWN_CLASSES.get(name) or getattr(transformers, name)


def known_config(model: ModelConfig) -> Any:
    """The config of an architecture with the entries that the run changes."""
    try:
        config = transformers.AutoConfig.for_model(model.architecture)
    except ValueError as error:
        known = sorted(transformers.CONFIG_MAPPING.keys())
        close = difflib.get_close_matches(str(model.architecture), known, 3)
        hint = f"did you mean {', '.join(close)}?" if close else "see transformers' list of model types"
        raise UserError("model.architecture", "unknown model type", model.architecture, hint) from error
    with _entries_that_fit(model):
        _override(config, model)
        # Built with them, so that what follows from an entry does (T5's decoder layers, Llama's head size).
        return transformers.AutoConfig.for_model(model.architecture, **model.config)


def _scratch_config(model: ModelConfig, processor: Any, task_options: Mapping[str, Any]) -> Any:
    config = known_config(model)
    if isinstance(processor, transformers.PreTrainedTokenizerBase):
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


def _no_class(head: str, config: Any) -> UserError:
    carried = getattr(config, "attnlab", None)
    if carried:
        what = f"carries its attention in a {carried['architecture']}, which has no other head"
        fix = f"a model for {head.replace('_', ' ')}, or one that attnlab fold made"
        return UserError("model.name", what, accepted=fix)
    return UserError(
        "model",
        f"transformers has no class for {head.replace('_', ' ')} with this architecture",
        config.model_type,
        "another architecture of the family, or another task",
    )


def cannot_load(what: str, source: str, error: Exception) -> UserError:
    """What a user is told when a part of a model is not where the name says."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UserError(
        "model.name",
        f"the {what} cannot be loaded: {reason}",
        source,
        "give a folder that holds it, or a Hub id while the Hub can be reached",
    )
