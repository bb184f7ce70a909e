"""An ablation whose run folders are at a storage URL, as its own machine sees it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pipelines.ablation.cell import Cell
from pipelines.ablation.preregistration import read_registration, seal
from pipelines.errors import RunFailed, UserError
from pipelines.storage import atomic, lease, reading
from pipelines.storage.lock import Busy, is_held
from pipelines.storage.names import (
    ABLATION,
    ANCHOR,
    CACHE,
    CANCELLED,
    CELLS,
    CHECKPOINTS,
    CONDITIONS,
    IDENTITY,
    LOCK,
    MANIFEST,
    METRICS_LOG,
    REGISTRATION,
    RUN,
    RUNS,
    SEARCH,
    STAMP,
    STARTS,
)
from pipelines.storage.object_store import ObjectStore
from pipelines.storage.removal import remove_run
from pipelines.storage.run_files import is_of_model, is_result
from pipelines.storage.run_folder import RunFolder
from pipelines.storage.scratch import scratch_of
from pipelines.storage.sealed import is_intact
from pipelines.storage.stored_run import Damaged, StoredRecord, StoredRun

FILES = (ABLATION, REGISTRATION, ANCHOR, STAMP, SEARCH, RUNS)  # RUNS last: it names the runs to make
SHOWN = (IDENTITY, RUN, METRICS_LOG, f"{CHECKPOINTS}/{CONDITIONS}")  # of a run at work, for its status
AT_A_TIME = 16  # requests to the store
T = TypeVar("T")


class AblationAtUrl:
    """The runs of one ablation at a storage URL, and the ablation's own small files beside them.

    Args:
        store: the URL of the run store.
        folder: of the ablation on this machine.

    Raises:
        UserError: the store cannot be used from here, or holds another ablation of this name.
    """

    def __init__(self, store: str, folder: Path) -> None:
        self.store, self.folder, self.name = ObjectStore(store), folder, folder.resolve().name
        if self.name in (CELLS, CACHE):
            raise UserError("store", f"keeps its runs under {self.name}", accepted="choose another --out")
        self.url = f"{self.store.url}/{self.name}"

    # ---- the ablation's own files
    def bring(self) -> None:
        """Bring the ablation's files into a folder that has none: the machine that began it may be lost.

        Raises:
            UserError: the folder holds another ablation than the store under this name.
        """
        here, there = self.folder / REGISTRATION, self.store.read(f"{self.name}/{REGISTRATION}")
        if there is None:
            return
        if not here.exists():
            for file in FILES:
                _bring(self.store, self.name, file, self.folder)
            return
        if _seal_of(there) not in (None, seal(read_registration(self.folder))):
            what = f"holds another ablation called {self.name}, registered at another time or for other arms"
            raise UserError("store", what, self.url, "choose another --out or another store")

    def publish(self) -> None:
        """Write the ablation's files, from which a worker knows its run, and end a cancellation."""
        for name in FILES:
            here = (self.folder / name).read_bytes() if (self.folder / name).is_file() else None
            if here is not None and self.store.read(f"{self.name}/{name}") != here:
                self.store.write(f"{self.name}/{name}", here)
        self.store.delete([f"{self.name}/{CANCELLED}"])

    def cancel(self) -> None:
        """Ask the workers of the ablation to save and leave; each looks when it renews its lease."""
        self.store.write(f"{self.name}/{CANCELLED}", b"\n")

    # ---- its runs
    def forget_starts(self, cells: Iterable[Cell]) -> None:
        """Reset the counts of starts without a new checkpoint, as the user has started the runs again."""
        _each(cells, lambda cell: self.store.delete([f"{self._run(cell).place}/{STARTS}"]))

    def refuse_known(self, cells: Iterable[Cell]) -> None:
        """Refuse runs that are to be made anew and are in the store already.

        Raises:
            UserError: it names one.
        """
        for cell, run in _each(cells, lambda one: self._run(one)):
            if run.ended() is not None or run.saved():
                what = f"has the run {cell.folder.name} already, of an earlier --fresh from another folder"
                raise UserError("--fresh", what, run.url, "delete that, or choose another store")

    def fetch_results(self, cells: Iterable[Cell]) -> None:
        """Bring what has ended into the run folders of this machine, and what a failure has said.

        Raises:
            RunFailed: a file of a run that has ended is damaged in the store.
        """
        missing = [cell for cell in cells if RunFolder(cell.folder).manifest() is None]
        _each(missing, self._fetch_result)

    def fetch_progress(self, cells: Iterable[Cell]) -> None:
        """Bring what has ended, and the logs of the runs at work elsewhere, for `attnlab status`."""
        self.fetch_results(cells)
        missing = [cell for cell in cells if RunFolder(cell.folder).manifest() is None]
        _each(missing, self._fetch_log)

    def complete(self, cells: Iterable[Cell]) -> None:
        """Write the runs that have ended here and are not in the store: it was away, or came later."""
        _each([cell for cell in cells if RunFolder(cell.folder).manifest() is not None], self._complete)

    def fetch_models(self, cells: Sequence[Cell]) -> None:
        """Bring the weights of runs that have ended."""
        _each(filter(_lacks_model, cells), self._fetch_model)

    def drop_models(self, cells: Sequence[Cell]) -> None:
        """Remove the weights of runs that have ended from the store."""
        _each(cells, lambda cell: self._run(cell).drop_model())

    def _run(self, cell: Cell) -> StoredRun:
        return StoredRun(self.store, cell.folder.name)

    def _fetch_result(self, cell: Cell) -> None:
        if is_held(cell.folder / LOCK):  # this machine works on it
            return
        run = self._run(cell)
        record = run.ended()
        if record is not None:
            _fetched(run, record, cell.folder, is_result)
        run.fetch_notes(cell.folder)

    def _fetch_log(self, cell: Cell) -> None:
        run = self._run(cell)
        newest = next(iter(run.saved()), None)
        if (
            newest is None
            or newest.step <= RunFolder(cell.folder).newest_step()
            or is_held(cell.folder / LOCK)
        ):
            return
        _fetched(run, newest, cell.folder, lambda name: name in SHOWN)

    def _complete(self, cell: Cell) -> None:
        run = self._run(cell)
        if run.ended() is None:
            run.end(cell.folder)

    def _fetch_model(self, cell: Cell) -> None:
        run = self._run(cell)
        record = run.ended()
        if record is not None:
            _fetched(run, record, cell.folder, is_of_model)


def is_at_work(cell: Cell) -> bool:
    """Return whether a process works on a run, on any machine that sees its folder or its store."""
    if is_held(cell.folder / LOCK):
        return True
    if cell.store is None or (cell.folder / MANIFEST).exists():
        return False
    store = ObjectStore(cell.store)
    return lease.is_held(store, StoredRun(store, cell.folder.name).place)


def local_folder(address: str) -> Path:
    """Return the folder of an ablation on this machine; the files of one at a storage URL come into scratch.

    Raises:
        UserError: there is no ablation at the URL.
    """
    if "://" not in address:
        return Path(address)
    store, _, name = address.rstrip("/").rpartition("/")
    folder = scratch_of(store) / name
    if name in ("", ".", "..", CELLS, CACHE):
        raise UserError(
            address, "is not the URL of an ablation", accepted="the line of ablate --prepare names it"
        )
    objects = ObjectStore(store)
    for file in FILES:
        if not _bring(objects, name, file, folder) and file in (ABLATION, REGISTRATION, RUNS):
            fix = "start attnlab ablate with this store, or correct the URL"
            raise UserError(address, f"there is no ablation: no {file}", accepted=fix)
    return folder


def _bring(store: ObjectStore, name: str, file: str, folder: Path) -> bool:
    """Bring one of the files of an ablation into its folder; return whether there is one."""
    content = store.read(f"{name}/{file}")
    if content is not None:
        folder.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(folder / file, content)
    return content is not None


def leave_scratch(cell: Cell) -> None:
    """Remove the folder of a run from the scratch of this machine, once the store has how it ended."""
    assert cell.store is not None, "called for a run at a storage URL only"
    if StoredRun(ObjectStore(cell.store), cell.folder.name).ended() is not None:
        with suppress(UserError, Busy):
            remove_run(cell.folder)


def _seal_of(registration: bytes) -> str | None:
    """Return the seal of a registration; None where it was cut while it was written."""
    try:
        stored = json.loads(registration)
        return seal(stored) if is_intact(stored) else None
    except (ValueError, AttributeError, TypeError):
        return None


def _lacks_model(cell: Cell) -> bool:
    files = (RunFolder(cell.folder).manifest() or {}).get("files", {})
    return not all((cell.folder / name).is_file() for name in files if is_of_model(name))


def _fetched(run: StoredRun, record: StoredRecord, folder: Path, wanted: Callable[[str], bool]) -> None:
    try:
        run.fetch(record, folder, wanted)
    except Damaged as error:
        fix = f"put it back from a copy, or delete all below {run.url} to make the run again"
        raise RunFailed(f"{error}; {fix}.") from error


def _each(cells: Iterable[Cell], work: Callable[[Cell], T]) -> list[tuple[Cell, T]]:
    """Return what `work` gives for each run, once for each folder, with several requests at a time."""
    every = list({cell.folder: cell for cell in cells}.values())
    if not every:
        return []
    with ThreadPoolExecutor(min(AT_A_TIME, len(every))) as threads:
        return list(zip(every, threads.map(work, every)))


def at_url(store: str | None, folder: Path) -> AblationAtUrl | None:
    """Return the ablation at its storage URL; None where its runs are beside its folder."""
    return AblationAtUrl(store, folder) if store is not None else None


def refuse_other_store(store: str | None, folder: Path) -> None:
    """Refuse an ablation whose runs are at a storage URL under another one, or none: it would lose them.

    Raises:
        UserError: it names both.
    """
    if not reading.is_there(folder / ABLATION):
        return
    before = reading.yaml_mapping(folder / ABLATION, "put it back, or delete it").get("store")
    if before is not None and before != store:
        what = f"the runs of {folder} are at {before} so far"
        fix = f"store={before}, or delete the line store: of {folder / ABLATION} to leave them behind"
        raise UserError("store", what, store or "none", fix)
