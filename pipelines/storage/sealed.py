"""Records that hold the hash of their own content: a flipped bit in a number is still valid JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.errors import UserError

DIGEST = "sha256_of_the_rest"


def digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of content as JSON, whatever the order of its names."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with the hash of everything else in it."""
    return {**record, DIGEST: _digest(record)}


def is_intact(record: Mapping[str, Any]) -> bool:
    """Return whether a record is as it was sealed; attnlab 0.1 sealed none, so one without a hash is."""
    return DIGEST not in record or record[DIGEST] == _digest(record)


def require_intact(record: Mapping[str, Any], where: Path, remedy: str) -> None:
    """Refuse a record that is not as it was sealed.

    Raises:
        UserError: it names the file.
    """
    if not is_intact(record):
        raise UserError(str(where), "has changed since it was written", accepted=remedy)


def without_seal(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record as it was before it was sealed."""
    return {name: value for name, value in record.items() if name != DIGEST}


def _digest(record: Mapping[str, Any]) -> str:
    return digest(without_seal(record))
