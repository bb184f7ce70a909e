"""A run at a storage URL: its files by their content, and records that say which of them make it up.

    cells/<run>/objects/<sha256>              one file of the run
    cells/<run>/saved-0.json, saved-1.json    the run as of its two newest checkpoints, written in turn
    cells/<run>/ended.json                    the run as it ended
    cells/<run>/without-model                 its weights were removed, as the ablation keeps others
    cells/<run>/lease.json                    who works on it
    cells/<run>/log.txt, failure.txt, starts.json    what its last start has said

An object has one content for ever, and a record is written after all its objects. So no write that fails, is
cut or comes twice can mix two states of a run, and none has to be found by a list. A record is sealed; an
object is what its name says or is not used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pipelines.errors import RunFailed
from pipelines.storage import atomic, temporary
from pipelines.storage.names import (
    CHECKPOINTS,
    CONDITIONS,
    FAILURE,
    HUB,
    LOCK,
    LOG,
    MANIFEST,
    MODEL,
    SEAL,
    STARTS,
)
from pipelines.storage.object_store import ObjectStore, place_of
from pipelines.storage.paths import inside
from pipelines.storage.removal import RUN_FILES
from pipelines.storage.run_files import is_of_model
from pipelines.storage.run_folder import RunFolder
from pipelines.storage.sealed import DIGEST, is_intact, sealed

SAVED = ("saved-0.json", "saved-1.json")
ENDED = "ended.json"
WITHOUT_MODEL = "without-model"
OBJECTS = "objects"
NOTES = (LOG, FAILURE, STARTS)  # of a start, not of the run: whole or not, no number rests on them
READS = 3  # of an object that does not match its name
WRITTEN = (*RUN_FILES, f"{MODEL}/*")  # paths below the folder of a run
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class StoredRecord:
    """What a run consists of at a step: size and SHA-256 of each file, by its path in the run folder."""

    step: int
    files: Mapping[str, tuple[int, str]]

    @property
    def objects(self) -> set[str]:
        return {digest for _, digest in self.files.values()}


class Damaged(Exception):
    """An object is missing, or not what its name says; the message is a clause."""


class StoredRun:
    """One run at a storage URL.

    Args:
        run: the name of its folder.
    """

    def __init__(self, store: ObjectStore, run: str) -> None:
        self.store, self.place, self.url = store, place_of(run), f"{store.url}/{place_of(run)}"
        self._bad: set[str] = set()  # objects that this process has found damaged
        self._cut: set[str] = set()  # records that are there and not whole

    # ---- records
    def ended(self) -> StoredRecord | None:
        """Return the record of a run that has ended; None while it has not."""
        record = self._record(ENDED)
        if record is None or self.store.read(f"{self.place}/{WITHOUT_MODEL}") is None:
            return record
        return StoredRecord(
            record.step, {name: one for name, one in record.files.items() if not is_of_model(name)}
        )

    def saved(self) -> list[StoredRecord]:
        """Return the records of the newest checkpoints, the newest first, without those that are cut."""
        found = [record for slot in SAVED if (record := self._record(slot)) is not None]
        return sorted(found, key=lambda record: -record.step)

    def has_lost_records(self) -> bool:
        """Return whether the records that `ended` and `saved` did not find were whole once.

        The first checkpoint may be cut before there was another, and the record of the end is written while
        there are checkpoints. Any other record that is not whole was damaged later.
        """
        return ENDED in self._cut or self._cut >= {*SAVED}

    def _record(self, name: str) -> StoredRecord | None:
        """Return a record; None where there is none, or where it was not written whole.

        Raises:
            RunFailed: it names a file outside of the run's folder, or one that no run writes.
        """
        content = self.store.read(f"{self.place}/{name}")
        self._cut -= {name}
        self._cut |= {name} if content is not None else set()
        try:
            stored = json.loads(content) if content is not None else None
            if not isinstance(stored, dict) or DIGEST not in stored or not is_intact(stored):
                return None
            files = {str(file): (int(size), str(sha)) for file, (size, sha) in stored["files"].items()}
            record = StoredRecord(int(stored["step"]), files)
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        for file, (_, digest) in files.items():
            if not SHA256.fullmatch(digest) or not any(_fits(file, pattern) for pattern in WRITTEN):
                what = f"names {file!r}, which no run writes, so nothing of it is read"
                raise RunFailed(f"{self.url}/{name}: {what}; attnlab wrote no such record.")
        self._cut -= {name}
        return record

    # ---- writing
    def save(self, folder: Path) -> StoredRecord:
        """Write the run as of the newest checkpoint in its folder, beside the one before.

        Raises:
            StoreFailed: the store does not take it; what was there is whole.
        """
        step = RunFolder(folder).newest_step()
        slots = {slot: self._record(slot) for slot in SAVED}
        earlier = [slot for slot, record in slots.items() if record is not None and record.step < step]
        kept = max(earlier, key=lambda slot: slots[slot].step, default=None)  # type: ignore[union-attr]  # not None
        free = next(slot for slot in SAVED if slot != kept)
        before = slots[kept].objects if kept else set()  # type: ignore[union-attr]
        files = [*_results(folder), *_checkpoints(folder, step)]
        new = self._write(free, step, files, folder, known=before)
        if (replaced := slots[free]) is not None:
            self._forget(replaced.objects - new.objects - before)
        return new

    def end(self, folder: Path) -> StoredRecord:
        """Write the run as it ended, then remove what only its checkpoints needed.

        Raises:
            StoreFailed: the store does not take it; its checkpoints there are whole.
        """
        record = self._write(ENDED, RunFolder(folder).newest_step(), _results(folder), folder)
        with suppress(RunFailed):  # what stays is in nobody's way
            self.store.delete(f"{self.place}/{slot}" for slot in SAVED)
            self._forget({*self.store.names(f"{self.place}/{OBJECTS}")} - record.objects)
        return record

    def drop_model(self) -> None:
        """Remove the weights of a run that has ended; all else stays."""
        record = self._record(ENDED)
        if record is not None and self.store.read(f"{self.place}/{WITHOUT_MODEL}") is None:
            self.store.write(f"{self.place}/{WITHOUT_MODEL}", b"\n")
            kept = {digest for name, (_, digest) in record.files.items() if not is_of_model(name)}
            self._forget(record.objects - kept)

    def _write(
        self, record: str, step: int, files: Iterable[Path], folder: Path, known: Set[str] = frozenset()
    ) -> StoredRecord:
        """Write what is not there yet of the files, then the record of them.

        Args:
            known: objects that another record names.
        """
        entries: dict[str, tuple[int, str]] = {}
        for file in files:
            size, digest = file.stat().st_size, atomic.sha256_of(file)
            name = f"{self.place}/{OBJECTS}/{digest}"
            # What is there is not written again: another record may rest on it, and a write may be cut.
            if digest in self._bad or (digest not in known and self.store.size(name) != size):
                self.store.upload(name, file)
                self._bad.discard(digest)
            entries[file.relative_to(folder).as_posix()] = (size, digest)
        return self._put(record, StoredRecord(step, entries))

    def _put(self, name: str, record: StoredRecord) -> StoredRecord:
        content = sealed(
            {"step": record.step, "files": {file: list(one) for file, one in record.files.items()}}
        )
        self.store.write(f"{self.place}/{name}", json.dumps(content, indent=1, sort_keys=True).encode())
        return record

    def _forget(self, objects: set[str]) -> None:
        self.store.delete(f"{self.place}/{OBJECTS}/{digest}" for digest in sorted(objects))

    # ---- reading
    def fetch(
        self, record: StoredRecord, folder: Path, wanted: Callable[[str], bool] = lambda name: True
    ) -> None:
        """Bring files of a record into the run's folder; each is as it was written.

        Raises:
            Damaged: an object is missing or is not what its name says.
            StoreFailed: the store does not answer.
        """
        for name in sorted(filter(wanted, record.files), key=_last_of_all):
            size, digest = record.files[name]
            file = inside(folder, name, self.url)
            if not (file.is_file() and file.stat().st_size == size and atomic.sha256_of(file) == digest):
                self._fetch(file, size, digest, folder)

    def _fetch(self, file: Path, size: int, digest: str, folder: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.parent.resolve().is_relative_to(folder.resolve()):
            raise RunFailed(
                f"{file.parent}: is a link that leaves the folder of the run; put the folder itself there."
            )
        beside = temporary.beside(file)
        name = f"{self.place}/{OBJECTS}/{digest}"
        came = "is missing"
        try:
            for _ in range(READS):
                if self.store.download(name, beside):
                    if beside.stat().st_size == size and atomic.sha256_of(beside) == digest:
                        atomic.sync(beside)
                        beside.replace(file)
                        return
                    came = f"has {beside.stat().st_size} bytes that are not those of its name ({size})"
        finally:
            beside.unlink(missing_ok=True)
        self._bad.add(digest)
        raise Damaged(f"{self.store.url}/{name} {came}")

    # ---- what a start has said
    def put_notes(self, folder: Path, names: Sequence[str] = NOTES) -> None:
        """Write the log and the reason of a failure; one that is gone here is deleted there."""
        for name in names:
            if (folder / name).is_file():
                self.store.write(f"{self.place}/{name}", (folder / name).read_bytes())
            elif name != LOG:
                self.store.delete([f"{self.place}/{name}"])

    def fetch_notes(self, folder: Path) -> None:
        """Bring what the last start has said into the run's folder; a longer log here stays."""
        for name in NOTES:
            file, content = folder / name, self.store.read(f"{self.place}/{name}")
            if content is None:
                if name != LOG:
                    file.unlink(missing_ok=True)
            elif name != LOG or not file.is_file() or file.stat().st_size < len(content):
                folder.mkdir(parents=True, exist_ok=True)
                atomic.write_bytes(file, content)


def conditions_of(record: StoredRecord) -> str | None:
    """Return the hash of the conditions under which the checkpoints of a record were written."""
    entry = record.files.get(f"{CHECKPOINTS}/{CONDITIONS}")
    return entry[1] if entry is not None else None


def _last_of_all(name: str) -> tuple[bool, bool, str]:
    """Return a key that sorts what says that files are whole after these files."""
    return name == MANIFEST, name.endswith(f"/{SEAL}"), name


def _results(folder: Path) -> list[Path]:
    """Return the files of a run that are no checkpoints: all that a run writes for itself and its readers."""
    left_out = (LOCK, f"{LOCK}.*", *NOTES)
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return [
        path
        for path in found
        if (name := path.relative_to(folder).as_posix()).split("/")[0] not in (CHECKPOINTS, HUB)
        and not any(fnmatchcase(name, pattern) for pattern in left_out)
        and temporary.NAME.fullmatch(path.name) is None
        and any(_fits(name, pattern) for pattern in WRITTEN)
    ]


def _checkpoints(folder: Path, step: int) -> list[Path]:
    """Return the files of the checkpoint of a step, and of the best one before it."""
    run = RunFolder(folder)
    state: dict[str, Any] = json.loads((run.checkpoint(step) / "state.json").read_text(encoding="utf-8"))
    folders = [run.checkpoint(one) for one in sorted({step, state.get("best_step") or step})]
    sealed_files = [
        path
        for one in folders
        if (one / SEAL).is_file()
        for path in sorted(one / name for name in (*json.loads((one / SEAL).read_text()), SEAL))
    ]
    conditions = run.checkpoints / CONDITIONS
    return [*([conditions] if conditions.is_file() else []), *sealed_files]


def _fits(name: str, pattern: str) -> bool:
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and ".." not in parts and all(map(fnmatchcase, parts, wanted))
