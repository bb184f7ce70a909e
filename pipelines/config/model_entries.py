"""Check names and values in `model.config` against transformers' own config class, read from its source.

Known is the class of `model.architecture`, and that of a pretrained model in a folder (by its `config.json`).
The class of a model on the Hub is not known here: `train` checks its entries before it reads the data.
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from pipelines.config.suggestions import one_of, perhaps, show
from pipelines.config.yaml_source import Document
from pipelines.errors import UserError
from pipelines.registry import option_types, source
from pipelines.registry.source import Ancestor, Module

MODEL_TYPES = "transformers.models.auto.auto_mappings"
ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function", "decoder_hidden_act")
OF_THE_RUN = ("is_encoder_decoder", "vocab_size")  # follow from model.family and the tokenizer
NOT_NEGATIVE = ("_eps", "epsilon", "initializer_range", "initializer_factor", "_std")  # ends of names
SHARES = ("dropout", "dropout_prob", "pdrop", "dropout_rate", "layerdrop")  # ends of names


def wrong_entries(document: Document) -> Iterator[UserError]:
    """Yield an error for each entry of `model.config` whose name or type the architecture does not have."""
    entries, known = document.get(("model", "config")), known_entries(document)
    for name, value in entries.items() if isinstance(entries, dict) and known else ():
        where = document.place(("model", "config", name)).where
        if name in OF_THE_RUN or (name not in known and name in set_by_runs()):
            yield UserError(where, f"model.config.{name} is set by the run itself", accepted="leave it out")
            continue
        if name not in known:
            what = f"model.config.{name}: this architecture has no such entry"
            accepted = perhaps(str(name), known, "entries", otherwise="see its documentation")
            yield UserError(where, what, accepted=accepted)
            continue
        reason = _reason(name, value, known[name].hint)
        if reason is not None:
            yield UserError(where, f"model.config.{name} cannot have this value", show(value), reason)


def known_entries(document: Document) -> Mapping[str, ConfigEntry]:
    """Return the entries of the config of a run's model, with their values before it changes them.

    Empty where they are not known here.
    """
    stored = _stored_config(document)
    architecture = document.get(("model", "architecture"))
    model_type = stored.get("model_type") if stored else architecture
    known = class_entries(model_type) if isinstance(model_type, str) else None
    if known is None:
        return {}
    plain = ConfigEntry()
    return {
        **known,
        **{name: replace(known.get(name, plain), default=value) for name, value in stored.items()},
    }


def _reason(name: str, value: object, hint: object) -> str | None:
    """What is accepted where a value is not; None where it is."""
    if not option_types.fits(value, hint):
        choices = option_types.choices(hint)
        return one_of(value, choices) if choices else f"accepted: {option_types.shown(hint)}"
    if type(value) is int and option_types.fits(0.5, hint) and not _takes_int(hint):
        return f"write {value}.0"
    if name in ACTIVATIONS and isinstance(value, str):
        known = activations()
        return one_of(value, known) if known and value not in known else None
    if isinstance(value, int | float):
        if name.endswith(SHARES) and not 0 <= value <= 1:
            return "accepted: 0 to 1"
        if name.endswith(NOT_NEGATIVE) and value < 0:
            return "accepted: 0 or more"
    return None


def _takes_int(hint: object) -> bool:
    """Whether a type names int, or anything: transformers takes no whole number as a float."""
    return "int" in str(hint) or "Any" in str(hint)


# ---- what transformers' source says
def architectures() -> Mapping[str, str]:
    """Return every model_type of the installed transformers with the name of its config class."""
    return dict(_pairs("CONFIG_MAPPING_NAMES"))


@dataclass(frozen=True)
class ConfigEntry:
    """One entry of a config class: its type, and its default; None where the source does not state it."""

    hint: object = Any
    default: object = None


@lru_cache(maxsize=64)
def class_entries(model_type: str) -> Mapping[str, ConfigEntry] | None:
    """Return the entries of an architecture's config class; None where its source is not found."""
    folder = dict(_pairs("SPECIAL_MODEL_TYPE_TO_MODULE_NAME")).get(model_type, model_type.replace("-", "_"))
    module = _module(f"transformers.models.{folder}.configuration_{folder}")
    name = architectures().get(model_type, "")
    chain = list(source.ancestry(module, name)) if module else []
    base = _base()
    if not base or base[0] not in chain:
        return None
    found: dict[str, ConfigEntry] = {}
    aliases: dict[str, str] = {}
    for one in reversed([one for one in chain if one not in base]):
        aliases |= source.attributes(one.node).get("attribute_map") or {}
        found |= dict.fromkeys(_set_names(one.node), ConfigEntry()) | dict(_annotated(one.node, one.module))
    # The default stands under the first name: an entry under the other may have been set by it.
    second = {alias: found.get(entry, ConfigEntry()) for alias, entry in aliases.items()}
    return found | {alias: replace(entry, default=None) for alias, entry in second.items()}


def set_by_runs() -> list[str]:
    """Return the entries that every config has: those of labels and outputs, which a run sets itself."""
    return [
        name for one in _base() for name in (*_set_names(one.node), *dict(_annotated(one.node, one.module)))
    ]


def _base() -> list[Ancestor]:
    module = _module("transformers.configuration_utils")
    return list(source.ancestry(module, "PreTrainedConfig")) if module else []


def activations() -> list[str]:
    """Return the names of transformers' activation functions; none where its source is not found."""
    module = _module("transformers.activations")
    table = module.constant("ACT2CLS") if module else None
    return list(table or ())


def _annotated(node: ast.ClassDef, module: Module) -> Iterator[tuple[str, ConfigEntry]]:
    defaults = source.attributes(node)
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            name, is_entry = item.target.id, not ast.unparse(item.annotation).startswith("ClassVar")
            if is_entry and name[0] != "_":
                yield name, ConfigEntry(source.hint_of(item.annotation, module), defaults.get(name))


def _set_names(node: ast.ClassDef) -> Iterator[str]:
    """The public names that a class sets in its methods, or has a property to set for."""
    for name, method in source.methods(node).items():
        has_setter = any(ast.unparse(one).endswith(".setter") for one in method.decorator_list)
        yield from [name] if has_setter and name[0] != "_" else []
        yield from filter(None, map(_set_name, ast.walk(method)))


def _set_name(node: ast.AST) -> str | None:
    """The name in `self.name = ...`; None for another part of the source, or for a private name."""
    match node:
        case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()) if name[0] != "_":
            return name
    return None


def _pairs(name: str) -> list[tuple[str, str]]:
    module = _module(MODEL_TYPES)
    return [(str(key), str(value)) for key, value in (module.constant(name) if module else None) or ()]


def _module(name: str) -> Module | None:
    try:
        return source.module(name)
    except SyntaxError:
        return None


def _stored_config(document: Document) -> Mapping[str, Any]:
    """The `config.json` of a pretrained model in a folder; empty for another model."""
    folder = document.get(("model", "name"))
    if not isinstance(folder, str) or not os.path.isdir(folder):
        return {}
    try:
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError, RecursionError):  # `train` says what is wrong with it
        return {}
    return found if isinstance(found, dict) else {}
