"""`attnlab.json`, in everything we push: what it is, how it was proven, and the hash of every file.

It tells a pushed repository from any other, tells a later push which files are its own to replace, and
lets whoever downloads see whether every byte is as it was pushed, without asking the Hub again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.errors import RunFailed, UserError
from pipelines.storage import atomic
from pipelines.storage.paths import inside

CONTENTS, CARD = "attnlab.json", "README.md"
SCHEMA_VERSION = 1


def write(folder: Path, about: Mapping[str, Any]) -> str:
    """List every file of a staged folder but the card, which names the tag; return that tag.

    The tag follows from the content alone, so the card can pin it before there is a commit.
    """
    hashes = dict(hashes_of(folder))
    digest = hashlib.sha256(json.dumps([about, hashes], sort_keys=True).encode()).hexdigest()
    tag = f"attnlab-{digest[:12]}"
    content = {"schema_version": SCHEMA_VERSION, "tag": tag, **about, "files": hashes}
    atomic.write_json(folder / CONTENTS, content)
    return tag


def hashes_of(folder: Path) -> Iterator[tuple[str, str]]:
    """(name, sha256) of every file of a folder but the list and the card, by name."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in (CONTENTS, CARD):
            yield name, atomic.sha256_of(path)


def read(folder: Path, where: str) -> dict[str, Any]:
    """The list of a folder that was pushed, each of its files checked.

    Raises:
        UserError: attnlab did not push it, or something in it names a file outside of the folder.
        RunFailed: a file is not as it was pushed.
    """
    path = folder / CONTENTS
    if not path.is_file():
        what = f"was not pushed by attnlab: it has no {CONTENTS}"
        raise UserError(where, what, accepted="a model of another origin is named without hub:")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunFailed(f"{where}: {CONTENTS} is not as it was pushed") from error
    if content["schema_version"] != SCHEMA_VERSION:
        what = f"was pushed by attnlab {content['attnlab']}, in a form that this version does not read"
        raise UserError(f"{where}, {CONTENTS}", what, accepted="read it with that version")
    for name, digest in content["files"].items():
        file = inside(folder, name, f"{where}, {CONTENTS}")
        if not file.is_file() or atomic.sha256_of(file) != digest:
            state = "is not as it was pushed" if file.is_file() else "is missing"
            raise RunFailed(f"{where}: {name} {state}")
    for index in folder.glob("*.index.json"):  # transformers opens whatever it names
        for shard in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values():
            inside(folder, shard, f"{where}, {index.name}")
    return content
