"""Build the model of a run: one table maps (task head, model family) to the class."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from pipelines.config.load import ModelConfig, RunConfig
from pipelines.config.model_sizes import LAYERS
from pipelines.errors import UserError
from pipelines.hub import mirror
from pipelines.models.decoding import FORCED, find_start_token, keep_special_tokens
from pipelines.models.direction import require_direction
from pipelines.models.dropout import with_dropout
from pipelines.models.encoder_pair import EncoderPair
from pipelines.models.folder import model_folder
from pipelines.models.padding import require_padding_ignored
from pipelines.models.weights import LoadingInfo, require_body, require_numbers, require_rows
from pipelines.seeds import derive

ModelClass = Any  # an Auto class of transformers, `EncoderPair`, or the class of one architecture

# The only place that chooses a class. The keys are a task's head and a model's family, never an architecture:
# a new architecture needs a YAML file only.
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
    ("forecasting", "encoder"): "PatchTSTForPrediction",  # no Auto class covers it
}
OWN_CLASSES: Mapping[str, ModelClass] = {"EncoderPair": EncoderPair}  # all others are in transformers
# What a forward returns beside its logits, and in which form: it changes no number and is the caller's matter
OUTPUTS = {"return_dict": True, "output_attentions": False, "output_hidden_states": False}
NO_CLASS = "Unrecognized configuration class"  # in an Auto class's error for a config it has no class for
# Special token of a config -> names of the tokenizer's token that takes its place, the first that it has.
SPECIAL_TOKENS = {"pad": ("pad",), "bos": ("bos", "cls"), "eos": ("eos", "sep")}


def build_model(
    config: RunConfig, head: str, processor: object, task_options: Mapping[str, Any]
) -> PreTrainedModel:
    """Build the model of a run with stock attention, in float32.

    Every drawn parameter (of a model from scratch, of a new head) comes from the run's "init" stream, so all
    arms of a seed start from the same weights; `drawn_parameters` names them.

    Args:
        head: row of `MODEL_CLASSES` that the task needs.
        processor: tokenizer or other processor of the model; only a tokenizer changes the config.
        task_options: config entries that the task sets, such as `id2label`.

    Raises:
        UserError: there is no class for this task and family, config entries are unknown or do not fit, the
            weights cannot be read, or the model does not read in the direction of its family or without the
            padding.
    """
    model_class = _model_class(head, config.model.family)
    spec = config.model
    if config.dropout is not None:
        spec = with_dropout(spec, stated_config(spec), config.dropout)
    tokenizer = processor if isinstance(processor, PreTrainedTokenizerBase) else None
    entries = {name: value for name, value in task_options.items() if name != FORCED}
    torch.manual_seed(derive(config.seed, "init"))
    with config_errors_as_user_errors(spec):
        if spec.name is None:
            model = _build_from_scratch(model_class, head, spec, tokenizer, entries)
        else:
            model = _load_pretrained(model_class, head, spec, spec.name, tokenizer, entries)
        keep_special_tokens(model, task_options)
        if tokenizer is not None:
            _require_start_token(model)
            require_direction(model, spec.family)
            if head == "sequence_classification":
                require_padding_ignored(model, tokenizer)
    return model


def drawn_parameters(model: PreTrainedModel) -> frozenset[str]:
    """Return the names of the parameters that `build_model` drew at random instead of loading them."""
    names: frozenset[str] = vars(model)["drawn_parameters"]
    return names


def _record(model: PreTrainedModel, *, drawn: Iterable[str], unused: Iterable[str] = ()) -> None:
    # By `vars`, because a Module's attributes are typed as tensors and modules only.
    vars(model).update(drawn_parameters=frozenset(drawn), unused_weights=frozenset(unused))


def _build_from_scratch(
    model_class: ModelClass,
    head: str,
    spec: ModelConfig,
    tokenizer: PreTrainedTokenizerBase | None,
    task_options: Mapping[str, Any],
) -> PreTrainedModel:
    config = known_config(spec)
    if tokenizer is not None:
        config.vocab_size = len(tokenizer)
        set_special_tokens(config, tokenizer, keep=False)
        if config.is_encoder_decoder:
            config.decoder_start_token_id = tokenizer.pad_token_id
    for name, value in task_options.items():
        setattr(config, name, value)
    _override(config, spec)
    with _missing_class_as_user_error(head, config):
        model = _untrained(model_class, head, config)
    _record(model, drawn=(name for name, _ in model.named_parameters()))
    return model


def _load_pretrained(
    model_class: ModelClass,
    head: str,
    spec: ModelConfig,
    name: str,
    tokenizer: PreTrainedTokenizerBase | None,
    task_options: Mapping[str, Any],
) -> PreTrainedModel:
    source = model_folder(name)
    try:
        config = stated_config(spec, **task_options)
        if tokenizer is not None:
            set_special_tokens(config, tokenizer, keep=True)
        with _missing_class_as_user_error(head, config):
            loaded: tuple[PreTrainedModel, LoadingInfo] = model_class.from_pretrained(
                source,
                config=config,
                revision=spec.revision,
                dtype=torch.float32,
                use_safetensors=True,  # a pickle can run code when it is read
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except (OSError, ValueError, SafetensorError) as error:
        raise cannot_load("model", name, error) from error
    model, info = loaded
    if model_class is not EncoderPair or config.is_encoder_decoder:  # a pair has checked its halves
        require_body(model, info, name)
    require_numbers(model, name)
    if tokenizer is not None:
        require_rows(model, tokenizer, spec.tokenizer or name)
    other_sizes = {parameter for parameter, *_ in info["mismatched_keys"]}
    _record(model, drawn={*info["missing_keys"], *other_sizes}, unused=info["unexpected_keys"])
    return model


def _require_start_token(model: PreTrainedModel) -> None:
    """Refuse an encoder-decoder that does not say with which token its decoder begins."""
    config = model.config
    if config.is_encoder_decoder and find_start_token(model) is None:
        what = "the config does not say with which token the decoder begins"
        fix = "set model.config.decoder_start_token_id to its id, often that of the pad, class or start token"
        raise UserError("model.config", what, config.model_type, fix)


@contextmanager
def _missing_class_as_user_error(head: str, config: PreTrainedConfig) -> Iterator[None]:
    """Translate an Auto class's refusal of an architecture."""
    try:
        yield
    except ValueError as error:
        if NO_CLASS in str(error):
            raise _no_class(head, config) from error
        raise


@contextmanager
def config_errors_as_user_errors(spec: ModelConfig) -> Iterator[None]:
    """Translate what transformers or torch raise for sizes and names in a config that do not fit.

    Each architecture checks its entries in its own way, or fails on them later, so any exception is caught.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if spec.name is not None and not spec.config:
            raise cannot_load("model", spec.name, error) from error
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        what = f"{spec.architecture or spec.name} cannot be built with these entries ({reason})"
        raise UserError("model.config", what, dict(spec.config), "change the entry that it names") from error


def _untrained(model_class: ModelClass, head: str, config: PreTrainedConfig) -> PreTrainedModel:
    """Return a model with drawn weights.

    Raises:
        UserError: `model_class` is that of another architecture.
        ValueError: `model_class` is an Auto class that does not cover this architecture.
    """
    own = getattr(model_class, "config_class", None)
    if own is None:
        model: PreTrainedModel = model_class.from_config(config)
        return model
    if not isinstance(config, own):
        raise _no_class(head, config)
    model = model_class(config)
    return model


def _model_class(head: str, family: str) -> ModelClass:
    name = MODEL_CLASSES.get((head, family))
    if name is None:
        families = sorted(f for h, f in MODEL_CLASSES if h == head)
        raise UserError(
            "model.family", f"no model for a {head} task", family, f"accepted: {', '.join(families)}"
        )
    return OWN_CLASSES.get(name) or getattr(transformers, name)


def stated_config(spec: ModelConfig, **options: Any) -> PreTrainedConfig:
    """Return the config of a run's model, from scratch or stored, with the entries that the run changes.

    Args:
        options: more entries of a stored config.

    Raises:
        UserError: it cannot be read, an entry is unknown, or it has no layers.
    """
    if spec.name is None:
        return known_config(spec)
    source = model_folder(spec.name)
    try:
        config = transformers.AutoConfig.from_pretrained(
            source, revision=spec.revision, trust_remote_code=False, **options
        )
    except Exception as error:  # each architecture checks its entries in its own way
        raise cannot_load("model", spec.name, error) from error
    for part in (config, *parts_of(config)):
        for name, value in OUTPUTS.items():
            setattr(part, name, value)
    _override(config, spec)
    _require_layers(config)
    return config


def parts_of(config: PreTrainedConfig) -> list[PreTrainedConfig]:
    """Return the configs of the encoder and the decoder where each has its own."""
    found = (getattr(config, name, None) for name in ("encoder", "decoder", "text_config"))
    return [part for part in found if isinstance(part, PreTrainedConfig)] or [config]


def _require_layers(config: PreTrainedConfig) -> None:
    for part in parts_of(config):
        for name in LAYERS:
            if getattr(part, name, None) == 0:
                what = "a model without layers has no attention"
                raise UserError(f"{name} of the model's config", what, 0, "name a checkpoint that has layers")


def known_config(spec: ModelConfig) -> PreTrainedConfig:
    """Return the config of a model from scratch: its architecture's, with the entries that the run changes.

    Raises:
        UserError: the architecture or an entry is unknown, or the entries do not fit together.
    """
    assert spec.architecture is not None, f"{spec.name} is no model from scratch"
    try:
        config = transformers.AutoConfig.for_model(spec.architecture)
    except ValueError as error:
        known = sorted(transformers.CONFIG_MAPPING.keys())
        close = difflib.get_close_matches(spec.architecture, known, 3)
        hint = f"did you mean {', '.join(close)}?" if close else "see transformers' list of model types"
        raise UserError("model.architecture", "unknown model type", spec.architecture, hint) from error
    with config_errors_as_user_errors(spec):
        _override(config, spec)
        # Built again with the entries, because other entries follow from them (T5's decoder layers, Llama's
        # head size).
        return transformers.AutoConfig.for_model(spec.architecture, **spec.config)


def set_special_tokens(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, *, keep: bool) -> None:
    """Set the config's special tokens to those of the tokenizer; `keep`: only those that are not set."""
    for name, candidates in SPECIAL_TOKENS.items():
        found = (getattr(tokenizer, f"{candidate}_token_id") for candidate in candidates)
        token = next((token for token in found if token is not None), None)
        if not keep or getattr(config, f"{name}_token_id", None) is None:
            setattr(config, f"{name}_token_id", token)


def _override(config: PreTrainedConfig, spec: ModelConfig) -> None:
    """Set the `model.config` entries, each of which the architecture must know."""
    for name, value in spec.config.items():
        if not hasattr(config, name):
            close = difflib.get_close_matches(name, list(config.to_dict()), 3)
            raise UserError(
                f"model.config.{name}",
                f"{type(config).__name__} has no such entry",
                accepted=f"did you mean {', '.join(close)}?" if close else "see the model's documentation",
            )
        setattr(config, name, value)


def _no_class(head: str, config: PreTrainedConfig) -> UserError:
    carried = getattr(config, "attnlab", None)  # how `custom_attention.save` marks a model with variants
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


def cannot_load(part: str, source: str, error: Exception) -> UserError:
    """Return the error of a model part ("model", "tokenizer") that cannot be loaded from `source`."""
    if "trust_remote_code" in str(error):
        fix = "name a checkpoint of an architecture that transformers itself has"
        return UserError("model.name", "the checkpoint has code of its own, which is not run", source, fix)
    lines = str(error).strip().splitlines() or [type(error).__name__]
    reason = lines[0] if isinstance(error, OSError | ValueError) else " ".join(" ".join(lines).split())
    if isinstance(error, LookupError):  # says only what was not found
        reason = f"{type(error).__name__}: {reason}"
    fix = "give a folder that holds it, or a Hub id while the Hub can be reached"
    if Path(source).is_dir():
        fix = "correct the file or the entry that it is about, or save the model again with transformers"
    if isinstance(error, ImportError):
        fix = "install the package, or take the entry that asks for it out of config.json"
    fix = mirror.lacks("models", source) or fix
    return UserError("model.name", f"the {part} cannot be loaded: {reason}", source, fix)
