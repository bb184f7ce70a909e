"""Whether a report says what its runs have stored: every file hash, every number, computed again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.ablation import results
from pipelines.ablation.preregistration import digest
from pipelines.errors import RunFailed, UserError
from pipelines.runs import identity
from pipelines.runs.locate import record
from pipelines.storage import atomic
from pipelines.storage.atomic import read_json
from pipelines.storage.names import IDENTITY, MANIFEST, MODEL, REGISTRATION, RESULTS, RUNS, TOGETHER
from pipelines.storage.paths import inside
from pipelines.storage.run_folder import RunFolder

TOLERANCE = 1e-9  # relative; a sum in another order moves the last bits of a float64
RESAMPLED = 1e-4  # of the bootstrap, whose products are in float32
MOVED = 3  # resamples of the histogram that may change their bin by it
MOST_LINES = 40


def verify_command(folder: str) -> None:
    """`attnlab verify`: check an ablation or a run; exit status 1 where anything differs.

    Raises:
        UserError: the folder is neither.
        RunFailed: with the number of differences, each of which was printed.
    """
    path = record(folder)
    if (path / RUNS).exists() or (path / TOGETHER).exists():
        found = list(ablation_differences(path))
    elif (path / MANIFEST).exists():
        found = list(run_differences(path))
    else:
        raise UserError(folder, f"is neither a run nor an ablation: no {MANIFEST}, no {RUNS}")
    for line in found[:MOST_LINES]:
        print(line)
    if len(found) > MOST_LINES:
        print(f"... and {len(found) - MOST_LINES} more")
    if found:
        raise RunFailed(f"{folder}: {len(found)} differences")
    print(f"{folder}: every file is as its run wrote it, every number is what the stored statistics give")


def ablation_differences(folder: Path) -> Iterator[str]:
    """What is not as it should be in an ablation: its registration, its runs' files, its results."""
    stored = read_json(folder / RESULTS)
    if stored is None:
        raise UserError(str(folder), f"has no {RESULTS} yet", accepted="attnlab report writes one")
    ended = results.reported_in(folder)
    for one in ended:
        registered = read_json(one.folder / REGISTRATION)
        if digest(registered["declared"]) != registered["hash"]:
            yield f"{one.folder}/{REGISTRATION}: what is declared is not what its hash was made of"
        for cell, outcome in one.outcomes.items():
            if outcome.status == "finished":
                yield from (f"{cell.label}: {line}" for line in run_differences(cell.folder))
    try:
        computed = results.results_of(ended, folder)
    except UserError as error:  # files of a run do not fit together
        yield error.sentence()
        return
    yield from (f"{RESULTS}: {line}" for line in differences(stored, computed))


def run_differences(folder: Path) -> Iterator[str]:
    """What is not as a finished run left it: its identity and the hashes of its files."""
    run = RunFolder(folder)
    manifest, described = run.manifest(), run.identity()
    if described is None or identity.run_hash(described) != manifest["run_hash"]:
        yield f"{IDENTITY}: is not what the run hash in {MANIFEST} was made of"
    dropped = not run.model.exists()  # `keep` says whose weights stay
    for name, expected in manifest["files"].items():
        path = inside(folder, name, str(folder / MANIFEST))
        if not path.exists():
            if not (dropped and name.startswith(f"{MODEL}/")):
                yield f"{name}: is missing"
        elif atomic.sha256_of(path) != expected:
            yield f"{name}: has changed since the run finished"


def differences(stored: Any, computed: Any, where: str = "") -> Iterator[str]:
    """Fields in which two JSON values differ, each "where: stored -> computed"."""
    if isinstance(stored, Mapping) and isinstance(computed, Mapping):
        for name in sorted(stored.keys() | computed.keys()):
            inner = f"{where}.{name}" if where else name
            yield from differences(stored.get(name), computed.get(name), inner)
    elif isinstance(stored, list) and isinstance(computed, list) and len(stored) == len(computed):
        for index, (before, now) in enumerate(zip(stored, computed)):
            yield from differences(before, now, f"{where}[{_name_of(before, index)}]")
    elif not _equal(stored, computed, where):
        yield f"{where}: {stored!r} -> {computed!r}"


def _name_of(item: Any, index: int) -> str:
    """A comparison by what it compares, anything else by its place."""
    if isinstance(item, Mapping) and "metric" in item:
        return f"{item['cell']} / {item['arm']} / {item['metric']}"
    return str(index)


def _equal(stored: Any, computed: Any, where: str) -> bool:
    numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in (stored, computed)]
    if not all(numbers):
        return stored == computed
    if "bootstrap.counts" in where:
        return abs(stored - computed) <= MOVED
    tolerance = RESAMPLED if "bootstrap" in where else TOLERANCE
    return math.isclose(stored, computed, rel_tol=tolerance, abs_tol=tolerance * 1e-3)
