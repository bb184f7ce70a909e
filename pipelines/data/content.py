"""The content of examples as hashes: of a split for the identity of a run, of a row to find it again."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pipelines.tasks.base import Example


def hashes_of(examples: Iterable[Example]) -> tuple[str, np.ndarray]:
    """Return sha256 over all examples in order, and 64 bits of the digest of each row without its id."""
    whole, contents = hashlib.sha256(), array("Q")
    for example in examples:
        digest = digest_of({name: value for name, value in example.items() if name != "id"})
        contents.append(int.from_bytes(digest[:8]))
        whole.update(example["id"].encode("utf-8", "surrogatepass") + b"\0" + digest)
    return whole.hexdigest(), np.array(contents)


def hash_of_rows(contents: np.ndarray) -> str:
    """Return a hash of rows that is the same in any order and under any ids, from what `hashes_of` gives."""
    return hashlib.sha256(np.sort(contents).tobytes()).hexdigest()


def digest_of(values: Mapping[str, Any]) -> bytes:
    """Return the sha256 of some columns of a row, whatever their order."""
    return hashlib.sha256(_ENCODE(values).encode("utf-8", "surrogatepass")).digest()


def _plain(value: Any) -> str:
    """Return text for a value that JSON cannot hold (bytes, array, date); it differs if the value does."""
    if hasattr(value, "tobytes"):
        return repr(value.shape) + hashlib.sha256(value.tobytes()).hexdigest()
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else repr(value)


_ENCODE = json.JSONEncoder(sort_keys=True, ensure_ascii=False, default=_plain).encode
