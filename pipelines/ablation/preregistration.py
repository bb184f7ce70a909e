"""Pre-registration: what an ablation declares, stored before its first run."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from pipelines.ablation import declaration, ledger
from pipelines.ablation.cell import Cell
from pipelines.ablation.declaration import Deviation, declare
from pipelines.ablation.trials import trials
from pipelines.config.load import AblationConfig
from pipelines.errors import UserError
from pipelines.runs import identity
from pipelines.storage import atomic, reading
from pipelines.storage.names import (
    ABLATION,
    ANCHOR,
    CACHE,
    CELLS,
    MANIFEST,
    REGISTRATION,
    REPORT_FILES,
    REPORTS,
    RESULTS,
    RUNS,
    SEARCH,
    STAMP,
)
from pipelines.storage.run_folder import RunFolder
from pipelines.storage.sealed import digest, require_intact, sealed
from pipelines.storage.temporary import sweep

SEALED = ("hash", "time", "name", "anchor", "finished_before", "finished_runs")


def register(config: AblationConfig, folder: Path, *, fresh: bool = False) -> None:
    """Write the ablation's configuration and, the first time only, its registration.

    Ablations share runs, and a fresh copy of a run has its identity. So all finished runs of the store that
    are runs of this ablation are counted by arm: their results could be seen before.

    Args:
        fresh: every run is about to be made again; the registration notes it where some had finished.
    """
    path = folder / REGISTRATION
    is_new = not path.exists()
    if is_new:
        refuse_foreign(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    if is_new:
        declared, before = declare(config), _finished(folder.parent / CELLS, config)
        stored = {"declared": declared, "hash": digest(declared), "time": now, "name": folder.resolve().name}
        stored |= {"anchor": config.anchor} if config.anchor else {}
        stored |= {"ledger": looks[-1]["hash"]} if (looks := ledger.read(folder.parent)) else {}
        stored |= {"finished_before": dict(before.by_arm), "finished_runs": before.runs}
        atomic.write_json(path, sealed(stored))
    elif fresh and (before := _finished(folder.parent / CELLS, config)).runs:
        known = read_registration(folder)
        again = {"time": now, "finished": sum(before.by_arm.values())}
        told = [*known.get("made_again", []), again]
        atomic.write_json(path, sealed({**known, "made_again": told}))
    atomic.write_yaml(folder / ABLATION, config.to_dict())


def short(run_hash: str) -> str:
    """Return the part of a hash by which a registration names a run."""
    return run_hash[:16]


@dataclass(frozen=True)
class _Finished:
    """The finished runs of a store that are runs of an ablation; copies are counted, and named once."""

    by_arm: Mapping[str, int]
    runs: Sequence[str]


def _finished(store: Path, config: AblationConfig) -> _Finished:
    arms: dict[str, set[str]] = {}
    for cell, arm in product(config.cells, config.arms):
        tried = trials(config, cell, arm) if config.search else [None]
        for setting, seed in product(tried, {*config.seeds, *config.search_seeds}):
            described = identity.describe(config.run_config(cell, arm, seed, searched=setting))
            arms.setdefault(identity.run_hash(described), set()).add(arm)
    found = [one["run_hash"] for one in manifests(store) if one["run_hash"] in arms]
    return _Finished(
        Counter(arm for one in found for arm in arms[one]), sorted({short(one) for one in found})
    )


def manifests(store: Path) -> Iterator[dict[str, Any]]:
    """Yield the manifest of every run in a store that has ended, whatever its folder is called."""
    for path in sorted(store.glob(f"*/{MANIFEST}")):
        manifest = RunFolder(path.parent).manifest()
        if manifest is not None:
            yield manifest


def refuse_foreign(folder: Path) -> None:
    """Refuse a new folder that is a part of the run store, or holds a file of a name that an ablation writes.

    Raises:
        UserError: it names the file; nothing was written.
    """
    if folder.resolve().name in (CELLS, CACHE):
        what = f"is where the ablations beside it keep their {folder.resolve().name}"
        raise UserError(str(folder), what, accepted="choose another --out")
    for name in (ABLATION, ANCHOR, STAMP, RUNS, SEARCH, RESULTS, REPORTS, *REPORT_FILES):
        if os.path.lexists(folder / name):
            what = f"holds {name}, but no {REGISTRATION}, so no ablation wrote it and nothing is written"
            raise UserError(str(folder), what, accepted="choose another --out")


class MadeAgain(TypedDict):
    """A start with --fresh, after the registration, when runs had finished."""

    time: str
    finished: int


class Registered(TypedDict):
    """The content of registration.json."""

    declared: dict[str, Any]
    hash: str
    time: str
    anchor: NotRequired[str]  # what was to date it: "git", "hub:ORG/NAME" or a URL
    name: NotRequired[str]  # of the ablation's folder; since 0.2
    ledger: NotRequired[str]  # hash of the last look of the store before it; none: there was none
    finished_before: NotRequired[dict[str, int]]  # arm -> runs in the store, copies included
    finished_runs: NotRequired[list[str]]  # `short` hashes of these runs; since 0.2
    made_again: NotRequired[list[MadeAgain]]


def read_registration(folder: Path) -> Registered:
    """Return the registration of an ablation as it is stored.

    Raises:
        UserError: the file is missing or damaged.
    """
    fix = "put it back from a copy; deleted, attnlab ablate registers again, with its finished runs counted"
    found: Registered = reading.json_object(folder / REGISTRATION, fix, Registered)
    require_intact(found, folder / REGISTRATION, fix)
    return found


def seal(registered: Registered) -> str:
    """Return the digest of a whole registration, to which its runs are chained: what, when, after what."""
    looks = {"ledger": registered["ledger"]} if "ledger" in registered else {}  # older seals lack it
    return digest({name: registered.get(name) for name in SEALED} | looks)


def seals(registered: Registered) -> list[str]:
    """Return the digests to which runs may be chained: the seal, and one for each time all were made again.

    A run names the last one that there was when it was trained, so no time can be taken out afterwards.
    """
    again = registered.get("made_again", [])
    later = [digest({"seal": seal(registered), "made_again": again[: n + 1]}) for n in range(len(again))]
    return [seal(registered), *later]


def deviations(registered: Registered, config: AblationConfig, runs: Iterable[Cell]) -> list[Deviation]:
    """Return what has changed since the registration: the declaration, and runs made again after results.

    Args:
        runs: of the grid and of the search.
    """
    again = [
        Deviation(f"runs made again with --fresh, {one['time']}", f"{one['finished']} finished", "new ones")
        for one in registered.get("made_again", ())
    ]
    return [*declaration.deviations(registered["declared"], config, runs), *again]
