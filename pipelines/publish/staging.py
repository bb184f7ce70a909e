"""The folder that a push uploads: built beside the run, proven, searched for secrets, whole or not there."""

from __future__ import annotations

import errno
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipelines.errors import RunFailed
from pipelines.hub import secrets
from pipelines.storage import atomic
from pipelines.storage.atomic import read_json

FOLDER = "hub"  # of a run or an ablation: what was pushed from it, and where


@dataclass(frozen=True)
class PushRequest:
    """What a user asked to be pushed where."""

    repo: str
    revision: str = "main"
    private: bool = False
    license: str | None = None
    data_license: str | None = None


@dataclass(frozen=True)
class Staged:
    """A staged folder and the record of its push, which stands beside it and never in it."""

    folder: Path
    record: dict[str, Any]

    @property
    def num_bytes(self) -> int:
        return sum((self.folder / name).stat().st_size for name in self.record["files"])

    def pushed(self, commit: str, url: str) -> Staged:
        """The same, with what became of it on record."""
        done = Staged(self.folder, {**self.record, "status": "pushed", "commit": commit, "url": url})
        atomic.write_json(record_path(self.folder), done.record)
        return done


def say(sentence: str) -> None:
    """How far a push has come."""
    print(sentence, file=sys.stderr, flush=True)


def record_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def stage(source: Path, wanted: PushRequest, state: Any, build: Callable[[Path], dict[str, Any]]) -> Staged:
    """The staged folder of a run or an ablation; one that stands there from an earlier push is used again.

    Args:
        source: the folder that is pushed; the staged one is made in `hub/` of it.
        state: what the folder is made of, JSON-able; another one has it made again.
        build: writes the content into an empty folder and says what is to be on record, `tag` among it.

    Raises:
        UserError: something in it must not leave this machine.
        RunFailed: the disk is full, or the model is not what was trained.
    """
    place = source / FOLDER / f"{wanted.repo.replace('/', '--')}@{wanted.revision.replace('/', '--')}"
    made_of = {**asdict(wanted), "state": state, "attnlab": version("attnlab")}
    before = read_json(record_path(place))
    if before is not None and before["made_of"] == made_of and _whole(place, before["files"]):
        secrets.refuse(place, [source, source.parent])  # this process may know other secrets
        return Staged(place, before)
    beside = place.with_name(f".{place.name}.tmp")
    say(f"making {place} ready")
    with _told(place):
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        try:
            known = build(beside)
            secrets.refuse(beside, [source, source.parent])
            record = {"schema_version": 1, "made_of": made_of, **known, "status": "staged"}
            record["files"] = {name: atomic.sha256_of(beside / name) for name in _synced(beside)}
            shutil.rmtree(place, ignore_errors=True)
            beside.rename(place)
            atomic.write_json(record_path(place), record)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return Staged(place, record)


@contextmanager
def _told(place: Path) -> Iterator[None]:
    """A disk that is full or cannot be written, in words."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        what = f"{place.parent}: cannot hold what is to be pushed ({error.strerror})"
        raise RunFailed(f"{what}; the run is as it was") from error


def _synced(folder: Path) -> Iterator[str]:
    """Make every file durable; their names."""
    for path in sorted(folder.rglob("*")):
        atomic.sync(path)
        if path.is_file():
            yield path.relative_to(folder).as_posix()
    atomic.sync(folder)


def _whole(folder: Path, files: dict[str, str]) -> bool:
    return all(
        (folder / name).is_file() and atomic.sha256_of(folder / name) == digest
        for name, digest in files.items()
    )
