"""`attnlab.json`, in everything that attnlab pushes: its kind, its load check and the hash of every file.

It marks a repository as pushed by attnlab. A later push reads in it which files it may replace, and a
download checks every file by its hash, without asking the Hub again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from pipelines.errors import RunFailed, UserError
from pipelines.storage import atomic, reading
from pipelines.storage.paths import inside

CONTENTS, CARD = "attnlab.json", "README.md"
SCHEMA_VERSION = 1


class Contents(TypedDict):
    """The entries of `attnlab.json` that are read again; a push adds others about what it holds."""

    schema_version: int
    tag: str
    attnlab: str  # the version that pushed it
    files: dict[str, str]  # name -> sha256


class ShardIndex(TypedDict):
    """The part of a `*.index.json` that says which file holds which weight."""

    weight_map: dict[str, str]


def write(folder: Path, about: Mapping[str, object]) -> str:
    """Write `attnlab.json` into a staged folder, with every file but the card, and return the tag.

    The card names the tag, so it is not listed. The tag follows from the content alone, so the card can pin
    it before there is a commit.
    """
    hashes = dict(file_hashes(folder))
    digest = hashlib.sha256(json.dumps([about, hashes], sort_keys=True).encode()).hexdigest()
    tag = f"attnlab-{digest[:12]}"
    content = {"schema_version": SCHEMA_VERSION, "tag": tag, **about, "files": hashes}
    atomic.write_json(folder / CONTENTS, content)
    return tag


def file_hashes(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (name, sha256) of every file of a folder but `attnlab.json` and the card, in order of name."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in (CONTENTS, CARD):
            yield name, atomic.sha256_of(path)


def check(folder: Path, where: str) -> None:
    """Check every file of a downloaded folder against its `attnlab.json`.

    Args:
        where: the address of the folder, for messages.

    Raises:
        UserError: attnlab did not push it, or something in it names a file outside of the folder.
        RunFailed: a file is missing or differs from what was pushed.
    """
    path = folder / CONTENTS
    if not path.is_file():
        what = f"was not pushed by attnlab: it has no {CONTENTS}"
        raise UserError(where, what, accepted="a model of another origin is named without hub:")
    try:
        content: Contents = reading.json_object(path, "", Contents)
    except UserError as error:
        raise RunFailed(f"{where}: {CONTENTS} is not as it was pushed: {error.what}") from error
    if content["schema_version"] != SCHEMA_VERSION:
        what = f"was pushed by attnlab {content['attnlab']}, in a form that this version does not read"
        raise UserError(f"{where}, {CONTENTS}", what, accepted="read it with that version")
    for name, digest in content["files"].items():
        file = inside(folder, name, f"{where}, {CONTENTS}")
        if not file.is_file() or atomic.sha256_of(file) != digest:
            state = "is not as it was pushed" if file.is_file() else "is missing"
            raise RunFailed(f"{where}: {name} {state}")
    for index in folder.glob("*.index.json"):  # transformers opens whatever it names
        stated: ShardIndex = reading.json_object(index, "attnlab pushes no such file", ShardIndex)
        for shard in stated["weight_map"].values():
            inside(folder, shard, f"{where}, {index.name}")
