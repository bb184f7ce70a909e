"""The mirror: a folder that is looked at before the Hub, for machines without a network.

`ATTNLAB_MIRROR` names it, or `mirror` in the user's settings. `datasets/ORG/NAME` and `models/ORG/NAME`
in it are as `hf download --local-dir` leaves them. `attnlab fetch` fills it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

from pipelines.config.load import load_user_settings
from pipelines.config.user_settings import settings_file
from pipelines.errors import UserError
from pipelines.hub.address import PART
from pipelines.storage import atomic

VARIABLE = "ATTNLAB_MIRROR"
Kind: TypeAlias = Literal["datasets", "models"]
KINDS: Mapping[Kind, str] = {"datasets": "data sets", "models": "models"}
NAME = re.compile(f"{PART}(?:/{PART})?")  # of a repository; the oldest ones have no organization
COMMIT = re.compile(r"[0-9a-f]{40}")
HIDDEN = ".cache"  # folder in which the Hub's client and we keep records; no part of the repository
METADATA = Path(HIDDEN, "huggingface", "download")
REVISION = Path(HIDDEN, "attnlab-revision")  # holds what was asked for when it was fetched
UNFINISHED = Path(HIDDEN, "attnlab-unfinished")  # exists from the beginning of a fetch to its end


@dataclass(frozen=True)
class Mirrored:
    """A repository in the mirror."""

    folder: Path
    commit: str | None  # of the Hub; None where the folder does not state one for each of its files

    @property
    def content(self) -> str:
        """The hash of its files, which names it where no commit does."""
        return content_hash(self.folder)


def named() -> tuple[str, str] | None:
    """Return the folder that is named as the mirror, and what names it; None where nothing does.

    The variable wins over the user's settings; an empty one says that there is no mirror.

    Raises:
        UserError: the user's settings are wrong.
    """
    if VARIABLE in os.environ:
        return (os.environ[VARIABLE], VARIABLE) if os.environ[VARIABLE] else None
    in_settings = load_user_settings().mirror
    return (in_settings, f"mirror in {settings_file()}") if in_settings else None


def root() -> Path | None:
    """Return the folder of the mirror; None where none is named.

    Raises:
        UserError: the folder that is named does not exist, or the user's settings are wrong.
    """
    found = named()
    if found is None:
        return None
    folder = Path(found[0]).expanduser()
    if not folder.is_dir():
        fix = "correct it, remove it, or fill the folder: attnlab fetch CONFIG"
        raise UserError(found[1], "there is no such folder", found[0], fix)
    return folder.absolute()


def is_repository(name: str) -> bool:
    """Return whether a name can be that of a repository on the Hub and is no path of this machine."""
    return bool(NAME.fullmatch(name)) and ".." not in name and not os.path.exists(name)


def find(kind: Kind, name: str) -> Mirrored | None:
    """Return a repository of the mirror; None where it is not there, or there is no mirror.

    Raises:
        UserError: it is there and cannot be used: not fetched to its end, or damaged.
    """
    mirror = root() if is_repository(name) else None
    if mirror is None or not (mirror / kind / name).is_dir():
        return None
    folder = mirror / kind / name
    if (folder / UNFINISHED).exists() or any((folder / METADATA).rglob("*.incomplete")):
        raise UserError(str(folder), "was not fetched to its end", accepted=again())
    return Mirrored(folder, stated_commit(folder))


def find_at(kind: Kind, name: str, revision: str | None) -> Mirrored | None:
    """Return a repository of the mirror as `find` does; refuse one that holds another revision.

    Args:
        revision: branch, tag or commit that is asked for; None is the main branch. A folder that states no
            commit is no revision, and which branch another holds is known only if attnlab has fetched it.

    Raises:
        UserError: as `find`, or it holds another revision.
    """
    found = find(kind, name)
    if found is None or found.commit is None:
        return found
    asked = revision or "main"
    held = found.commit if COMMIT.fullmatch(asked) else _fetched_as(found.folder)
    if held not in (None, asked):
        raise UserError(str(found.folder), f"holds {held}, not {asked}", accepted=again())
    return found


def _fetched_as(folder: Path) -> str | None:
    """Return the branch or tag that was fetched; None where something else has filled the folder."""
    record = folder / REVISION
    return record.read_text(encoding="utf-8").strip() if record.is_file() else None


def held(root: Path, kind: Kind) -> list[str]:
    """Return the names of the repositories in a mirror."""
    return sorted(str(path.relative_to(root / kind)) for path in (root / kind).glob("*/*") if path.is_dir())


def again() -> str:
    """Return what to do about something that the mirror lacks."""
    folder, _ = named() or ("DIR", None)
    return f"where there is a network: {VARIABLE}={folder} attnlab fetch CONFIG"


def lacks(kind: Kind, name: str) -> str | None:
    """Return a sentence about a repository that is not in the mirror; None: it is there, or there is none."""
    mirror = root() if is_repository(name) else None
    if mirror is None or (mirror / kind / name).is_dir():
        return None
    return f"{kind}/{name} is not in the mirror {mirror}; {again()}"


# ---- what a folder holds
def files_of(folder: Path) -> Iterator[Path]:
    """Yield the files of a repository in order of name, without the records of the Hub's client."""
    for path in sorted(folder.rglob("*")):
        if path.relative_to(folder).parts[0] != HIDDEN and path.is_file():
            yield path


def content_hash(folder: Path) -> str:
    """Return the hash of the names and the contents of a folder's files."""
    digest = hashlib.sha256()
    for file in files_of(folder):
        digest.update(f"{file.relative_to(folder)}\0{file_hash(file)}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def file_hash(file: Path) -> str:
    """Return the sha256 of a file, computed once in a process for each state of it."""
    status = file.stat()
    return _sha256(file, status.st_mtime_ns, status.st_size)


def stated_commit(folder: Path) -> str | None:
    """Return the commit that the Hub's client has noted for each file; None where one has none or another.

    Raises:
        UserError: a file is not as it was downloaded, or no longer there.
    """
    commits = set()
    for note in sorted((folder / METADATA).rglob("*.metadata")):
        file = folder / str(note.relative_to(folder / METADATA)).removesuffix(".metadata")
        if not file.is_file():
            raise UserError(str(file), "was fetched and is not there", accepted=again())
    for file in files_of(folder):
        noted = note_of(folder, file)
        if noted is None:
            return None
        commit, etag = noted
        if digest(file, etag) not in (etag, None):
            raise UserError(str(file), "is not as it was fetched", accepted=f"delete it, then {again()}")
        commits.add(commit)
    return commits.pop() if len(commits) == 1 else None


def note_of(folder: Path, file: Path) -> tuple[str, str] | None:
    """Return the commit and the hash under which the Hub's client has downloaded a file."""
    note = folder / METADATA / f"{file.relative_to(folder)}.metadata"
    if not note.is_file():
        return None
    lines = note.read_text(encoding="utf-8", errors="replace").split("\n")
    return (lines[0], lines[1]) if len(lines) > 1 and COMMIT.fullmatch(lines[0]) else None


def digest(file: Path, etag: str) -> str | None:
    """Return the hash of a file of the kind that an etag is; None: it is of no known kind."""
    if re.fullmatch(r"[0-9a-f]{64}", etag):
        return file_hash(file)
    if re.fullmatch(r"[0-9a-f]{40}", etag):
        status = file.stat()
        return _git_hash(file, status.st_mtime_ns, status.st_size)
    return None


@cache
def _sha256(file: Path, _modified: int, _size: int) -> str:
    return atomic.sha256_of(file)


@cache
def _git_hash(file: Path, _modified: int, size: int) -> str:
    digest = hashlib.sha1(b"blob %d\0" % size)
    with open(file, "rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
