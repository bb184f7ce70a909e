"""Atomic files: written under another name, synced to disk, then renamed into place."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import yaml

from pipelines.errors import UserError
from pipelines.storage import temporary


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file so that at every moment it holds all of the old content or all of the new.

    What an earlier, killed write of this file has left beside it is removed.

    Raises:
        UserError: a folder stands in its place.
    """
    if path.is_dir() and not path.is_symlink():
        raise UserError(str(path), "is a folder, in the place of a file", accepted="move it away")
    temporary.sweep(path.parent, of=path.name)
    beside = temporary.beside(path)
    try:
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:  # a full disk, for example
        beside.unlink(missing_ok=True)
        error.filename = str(path)  # not the name that was to be renamed
        raise
    sync(path.parent)


def write_json(path: Path, content: object) -> None:
    """Write JSON, sorted and indented; NaN is refused, because JSON has none and most readers fail on it."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def write_yaml(path: Path, content: Mapping[str, object]) -> None:
    """Write YAML in the order of `content`; it reads back as the same values."""
    write_bytes(path, yaml_text(content).encode())


def yaml_text(content: Mapping[str, object]) -> str:
    """Return `content` as YAML text, in its order."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """A dumper that quotes texts with U+0085, which PyYAML would else read back as a line break."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if "\x85" in text else None)


_Dumper.add_representer(str, _text)


def is_disk_full(error: Exception) -> bool:
    """Return whether an error means that the disk or the user's quota is full."""
    # The errors of safetensors have no errno, only a text.
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)


def sync(path: Path) -> None:
    """Make the content of a file durable, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes, as hexadecimal text."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
