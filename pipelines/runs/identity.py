"""The identity of a run: everything that decides its numbers, and the hash that names its folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipelines.config.load import RUN_EXECUTION_KEYS, RunConfig
from pipelines.errors import UserError
from pipelines.hub import mirror
from pipelines.registry import catalog, source
from pipelines.registry.fingerprint import fingerprint, fingerprints, of_file
from pipelines.runs.sources import sources_of
from pipelines.storage.paths import split_part

# Raised for a change of numbers that no source file shows: another meaning of a setting or of stored data.
NUMERICS_VERSION = 7
# The settings (section, key) that an identity holds by content, where they name a file or folder.
BY_CONTENT = (
    *(("data", name) for name in ("name", "train", "validation", "test")),
    ("model", "name"),
    ("model", "tokenizer"),
)
CONTENT = "sha256:"  # how a hash of contents begins
NO_NUMBER = ("data.publish_text", "data.streaming")  # what is shown, where rows are held
# What every run is trained and scored with, besides its task, variants and corpus; by package. The imports of
# these modules are not followed: they lead to messages, files and the Hub, which decide no number.
TRAINING = {
    "custom_attention": (
        "attach",
        "head_weights",
        "kernel_names",
        "modes",
        "position_tables",
        "site",
        "sites",
        "training",
        "variant",
    ),
    "custom_attention.adapters": ("deberta_v2", "mpnet"),
    "custom_attention.kernels": ("flash", "flex", "one_query", "select", "visible"),
    "custom_attention.runtime": (
        "adapter",
        "blockwise",
        "call",
        "dispatch",
        "forward",
        "kernel",
        "paired_dropout",
        "recomputed",
        "restored_model",
        "tokens",
        "transfer",
    ),
    "pipelines": ("seeds",),
    "pipelines.config": ("dropout",),
    "pipelines.data": (
        "cells",
        "columns",
        "conll",
        "content",
        "decode",
        "features",
        "partition",
        "plain_text",
        "readers",
        "separated",
        "sound_folders",
        "splits",
        "squad_json",
        "streaming",
        "table",
        "tag_schemes",
        "twice",
    ),
    "pipelines.distributed": ("accelerator", "sharding", "skipped", "transfer"),
    "pipelines.models": (
        "activations",
        "attention",
        "build",
        "decoding",
        "direction",
        "dropout",
        "encoder_pair",
        "freeze",
        "head_labels",
        "kernel",
        "lora",
        "processor",
        "tokenizer",
        "tokenizer_fit",
    ),
    "pipelines.storage": ("paths",),
    "pipelines.train": ("batches", "engine", "evaluate", "loop", "muon", "optimizer", "state"),
    "pipelines.train.speed": (
        "dropout",
        "embedding_gradients",
        "gelu",
        "products",
        "quicken",
        "token_layout",
        "unpadding",
    ),
}


def describe(config: RunConfig) -> dict[str, Any]:
    """Return everything that may change a number of this run, JSON-able.

    This is the resolved configuration without execution keys, with contents instead of paths for data,
    weights and tokenizer, and of what the mirror holds without a commit; the fingerprint of every source file
    that decides numbers, by module; and our numerics version.

    Raises:
        UserError: a source file is missing or is not valid Python.
    """
    settings = {name: value for name, value in config.to_dict().items() if name not in RUN_EXECUTION_KEYS}
    contents = {place: source["content"] for place, source in sources_of(config).items()}
    for section, name in BY_CONTENT:
        settings[section] = dict(settings[section])
        named = settings[section][name]
        if content := contents.get(f"{section}.{name}"):
            settings[section][name] = content
        elif isinstance(named, dict):
            settings[section][name] = {column: content_of(file) for column, file in named.items()}
        else:
            settings[section][name] = content_of(named)
    for name in NO_NUMBER:
        del settings["data"][name.removeprefix("data.")]
    return {"numerics": NUMERICS_VERSION, "config": settings, "sources": _sources(config)}


def run_hash(identity: Mapping[str, Any]) -> str:
    """Return the sha256 of an identity, as hexadecimal text."""
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def other_settings(identity: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Return the settings that are not those of an identity, as `differences` does.

    What the identity has by its content may have any name in the settings, and what it leaves out is free.
    """
    old, new = dict(flatten(identity["config"])), dict(flatten(settings))
    by_content = {
        name
        for name, value in old.items()
        if tuple(name.split(".")[:2]) in BY_CONTENT and str(value).startswith(CONTENT)
        if new.get(name) is not None
    }
    names = sorted(old.keys() | {name for name in new if name.split(".")[0] in identity["config"]})
    return [
        f"{name}: {old.get(name)!r} -> {new.get(name)!r}"
        for name in names
        if name not in by_content and name not in NO_NUMBER and old.get(name) != new.get(name)
    ]


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the fields in which two identities differ, each as "field: old -> new"."""
    flat_old, flat_new = dict(flatten(old)), dict(flatten(new))
    return [
        f"{name}: {flat_old.get(name)!r} -> {flat_new.get(name)!r}"
        for name in sorted(flat_old.keys() | flat_new.keys())
        if flat_old.get(name) != flat_new.get(name)
    ]


def _sources(config: RunConfig) -> dict[str, str]:
    """The fingerprint of every module that decides numbers: of training, task, variants and corpus."""
    named = [(catalog.TASK, config.task.name)]
    named += [(catalog.VARIANT, variant.name) for variant in config.attention]
    if config.data.generated is not None:
        named.append((catalog.CORPUS, config.data.generated.name))
    found = {name: fingerprint(name) for name in _of_training()}
    for kind, name in named:
        entry = catalog.find(kind, name)
        if entry is None:
            raise UserError(f"{kind.word} {name}", "its source is not found, so the run has no hash")
        found |= fingerprints(entry.module.name)
    return found


def _of_training() -> Iterator[str]:
    return (f"{package}.{name}" for package, names in TRAINING.items() for name in names)


def read_sources() -> None:
    """Hash the source files of `TRAINING` before a run asks: one that has changed by then is hashed again."""
    with suppress(UserError):  # the run says it
        for name in _of_training():
            of_file(name, *source.version_of(name))


def content_of(value: str | None) -> str | None:
    """Return the content hash of a local file (with its range of rows) or folder; other text unchanged."""
    name, part = split_part(value or "")
    path = Path(name)
    if not name or not path.exists():
        return value
    if path.is_dir():
        return f"{mirror.content_hash(path)}{part}"
    digest = hashlib.sha256(f"\0{mirror.file_hash(path)}\n".encode())
    return f"{CONTENT}{digest.hexdigest()}{part}"


def flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of nested mappings under its dotted name; a list is one value, as JSON text."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from flatten(inner, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, json.dumps(value) if isinstance(value, (list, tuple)) else value
