"""The folder that a push uploads: built beside the run, searched for secrets, and complete or absent."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NotRequired, cast

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from pipelines.errors import RunFailed, UserError
from pipelines.hub import secrets
from pipelines.shown import printable
from pipelines.storage import atomic, reading, removal, temporary
from pipelines.storage.names import HUB
from pipelines.storage.sealed import require_intact, sealed


@dataclass(frozen=True)
class PushRequest:
    """What a user asked to push, and where to."""

    repo: str
    revision: str = "main"
    private: bool = False
    license: str | None = None
    data_license: str | None = None


class About(TypedDict):
    """What a staged folder holds, as its `attnlab.json` says too."""

    kind: str  # "stock", "folded", "custom" or "ablation"
    attnlab: str  # the version that staged it
    proof: Mapping[str, float]  # way to load the model -> largest difference to the trained one
    loader: NotRequired[str]  # of a model: the class that loads it
    models: NotRequired[Mapping[str, str]]  # of an ablation: branch -> tag


class Built(About):
    """What a builder of a staged folder returns."""

    tag: str


class PushRecord(Built):
    """The record of a push, stored beside the staged folder."""

    schema_version: int
    made_of: Mapping[str, object]  # a folder is staged again when this changes
    files: Mapping[str, str]  # name -> sha256
    status: str  # "staged" or "pushed"
    commit: NotRequired[str]
    url: NotRequired[str]


@dataclass(frozen=True)
class Staged:
    """A staged folder and the record of its push, which is stored beside it and never in it."""

    folder: Path
    record: PushRecord

    @property
    def num_bytes(self) -> int:
        return sum((self.folder / name).stat().st_size for name in self.record["files"])

    def pushed(self, commit: str, url: str) -> Staged:
        """Record that the folder is on the Hub and return it with the new record."""
        record: PushRecord = {**self.record, "status": "pushed", "commit": commit, "url": url}
        atomic.write_json(record_path(self.folder), sealed(record))
        return Staged(self.folder, record)


def print_progress(sentence: str) -> None:
    """Print what a push does now to standard error."""
    print(printable(sentence), file=sys.stderr, flush=True)


def record_path(folder: Path) -> Path:
    """Return the path of the record of a staged folder."""
    return folder.with_name(f"{folder.name}.json")


def stage(source: Path, request: PushRequest, state: object, build: Callable[[Path], Built]) -> Staged:
    """Return the staged folder of a run or an ablation; that of an earlier push is used again.

    Args:
        source: the folder that is pushed; the staged one is made in its folder `hub/`.
        state: what the content follows from, as JSON; if it changes, the folder is staged again.
        build: writes the content into an empty folder and returns what to record about it.

    Raises:
        UserError: the content holds a secret or a path of this machine.
        RunFailed: the disk is full, or the staged model does not load as the trained one.
    """
    place = source / HUB / f"{request.repo.replace('/', '--')}@{request.revision.replace('/', '--')}"
    made_of = {**asdict(request), "state": state, "attnlab": version("attnlab")}
    before = _record_of(place)
    if before is not None and before.get("made_of") == made_of and _is_complete(place, before["files"]):
        secrets.refuse(place, [source, source.parent])  # this process may know other secrets
        return Staged(place, before)
    _refuse_strangers(place, before)
    print_progress(f"making {place} ready")
    with _disk_errors_in_words(place), temporary.folder_beside(place) as folder:
        built = build(folder)
        secrets.refuse(folder, [source, source.parent])
        files = {name: atomic.sha256_of(folder / name) for name in _synced(folder)}
        record: PushRecord = {
            "schema_version": 1,
            "made_of": made_of,
            **built,
            "status": "staged",
            "files": files,
        }
        removal.remove_listed(place, before["files"] if before else {})
        atomic.write_json(record_path(place), sealed(record))  # first, so that the names are known
        folder.rename(place)
    return Staged(place, record)


def _record_of(place: Path) -> PushRecord | None:
    """Return the record of a staged folder; None where it cannot be used, so that it is staged again."""
    try:
        found = reading.json_object_if_there(record_path(place), "", PushRecord)
        require_intact(found or {}, record_path(place), "")
    except UserError:
        return None
    return cast(PushRecord | None, found)


def _refuse_strangers(place: Path, before: PushRecord | None) -> None:
    """Refuse to stage anew where a folder holds what no push wrote.

    Raises:
        UserError: it names the files.
    """
    if place.is_symlink():
        raise UserError(str(place), "is a link, so nothing is staged there", accepted="remove the link")
    if place.exists():
        removal.refuse_listed_only(place, before["files"] if before else {}, "is staged there")


@contextmanager
def _disk_errors_in_words(place: Path) -> Iterator[None]:
    """Turn the error of a full or read-only disk into a sentence for the user."""
    try:
        yield
    except Exception as error:  # those of safetensors are no OSError
        is_read_only = isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES)
        if not (is_read_only or atomic.is_disk_full(error)):
            raise
        reason = getattr(error, "strerror", None) or "No space left on device"
        what = f"{place.parent}: cannot hold the files to push ({reason})"
        raise RunFailed(f"{what}; the run is unchanged") from error


def _synced(folder: Path) -> Iterator[str]:
    """Make every file of a folder durable and yield its name."""
    for path in sorted(folder.rglob("*")):
        atomic.sync(path)
        if path.is_file():
            yield path.relative_to(folder).as_posix()
    atomic.sync(folder)


def _is_complete(folder: Path, files: Mapping[str, str]) -> bool:
    return all(
        (folder / name).is_file() and atomic.sha256_of(folder / name) == digest
        for name, digest in files.items()
    )
