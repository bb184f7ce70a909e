"""What makes a run this run and no other: its identity, and the hash that names its folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pipelines.config.load import RUN_EXECUTION_KEYS, RunConfig
from pipelines.errors import UserError
from pipelines.registry import catalog
from pipelines.storage import atomic
from pipelines.storage.paths import split_part

# Raised whenever a change of ours moves numbers (loop, plan, loss, seeds): old runs are then other runs.
NUMERICS_VERSION = 7


def describe(config: RunConfig) -> dict[str, Any]:
    """Everything that may change a number of this run, JSON-able.

    The resolved configuration without execution keys; contents instead of paths for data, weights and
    tokenizer; the source text of the variants, the task and the corpus; our numerics version.
    """
    settings = {name: value for name, value in config.to_dict().items() if name not in RUN_EXECUTION_KEYS}
    for section, name in (
        *(("data", name) for name in ("name", "train", "validation", "test")),
        ("model", "name"),
        ("model", "tokenizer"),
    ):
        settings[section] = dict(settings[section])
        settings[section][name] = content_of(settings[section][name])
    for name in ("publish_text", "streaming"):  # what is shown, where rows are held: no number
        del settings["data"][name]
    return {
        "numerics": NUMERICS_VERSION,
        "config": settings,
        "sources": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in _sources(config)},
    }


def run_hash(identity: Mapping[str, Any]) -> str:
    """sha256 of an identity, as hexadecimal text."""
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The fields in which two identities differ, each "field: old -> new"."""
    flat_old, flat_new = dict(_flatten(old)), dict(_flatten(new))
    return [
        f"{name}: {flat_old.get(name)!r} -> {flat_new.get(name)!r}"
        for name in sorted(flat_old.keys() | flat_new.keys())
        if flat_old.get(name) != flat_new.get(name)
    ]


def _sources(config: RunConfig) -> Iterator[tuple[str, str]]:
    named = [(catalog.TASK, config.task.name)]
    named += [(catalog.VARIANT, variant.name) for variant in config.attention]
    if config.data.generated is not None:
        named.append((catalog.CORPUS, config.data.generated.name))
    for kind, name in named:
        entry = catalog.find(kind, name)
        if entry is None:
            raise UserError(f"{kind.word} {name}", "its source is not found, so the run has no identity")
        yield f"{kind.word}:{name}", entry.module.file.read_text(encoding="utf-8")


def content_of(value: str | None) -> str | None:
    """A local file (with the rows meant) or folder as the hash of its content; other text as it is."""
    name, part = split_part(value or "")
    path = Path(name)
    if not name or not path.exists():
        return value
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        name = str(file.relative_to(path)) if path.is_dir() else ""
        digest.update(f"{name}\0{_file_hash(file, file.stat().st_mtime_ns, file.stat().st_size)}\n".encode())
    return f"sha256:{digest.hexdigest()}{part}"


@cache
def _file_hash(path: Path, _modified: int, _size: int) -> str:
    return atomic.sha256_of(path)


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flatten(inner, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, json.dumps(value) if isinstance(value, (list, tuple)) else value
