"""Files that survive a crash: written beside, synced, renamed into place."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipelines.errors import UserError


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file so that at any instant it holds the old content or the new, never a part."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")  # no pid: other machines have it too
    with open(beside, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    sync(path.parent)


def write_json(path: Path, content: Any) -> None:
    """Write JSON, sorted and indented; NaN is refused because other readers would be."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    """Write YAML in the order of `content`, which reads back as it was."""
    write_bytes(path, yaml_text(content).encode())


def yaml_text(content: Mapping[str, Any]) -> str:
    """`content` as YAML, in its order."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """PyYAML writes the control character U+0085 as it is and reads a line break; quoted, it is escaped."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if "\x85" in text else None)


_Dumper.add_representer(str, _text)


def says_full(error: Exception) -> bool:
    """Whether an error means that a disk, or a user's share of it, is full; safetensors keeps no number."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)


def sync(path: Path) -> None:
    """Make the content of a file durable, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Hash of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """Content of a JSON file of ours, None where it is missing.

    Raises:
        UserError: it is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(str(path), f"is damaged: {_clause(error)}") from error


def _clause(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
