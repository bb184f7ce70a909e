"""`attnlab verify`: check every file hash and compute every number of a report again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipelines.ablation import results
from pipelines.ablation.preregistration import digest, read_registration
from pipelines.errors import RunFailed, UserError
from pipelines.runs import identity
from pipelines.runs.locate import find_record
from pipelines.storage import atomic
from pipelines.storage.names import IDENTITY, MANIFEST, MODEL, REGISTRATION, RESULTS, RUNS, TOGETHER
from pipelines.storage.paths import inside
from pipelines.storage.run_folder import RunFolder

TOLERANCE = 1e-9  # relative; a sum in another order changes the last bits of a float64
BOOTSTRAP_TOLERANCE = 1e-4  # relative; its products are in float32
MOST_MOVED = 3  # resamples of a histogram that may change their bin
MOST_LINES = 40


def verify_command(folder: str) -> None:
    """Check an ablation or a run and print every difference.

    Raises:
        UserError: the folder is neither.
        RunFailed: there are differences.
    """
    path = find_record(folder)
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
    """Yield the differences in an ablation: its registration, the files of its runs, its results."""
    stored = results.read_results(folder)
    if stored is None:
        raise UserError(str(folder), f"has no {RESULTS} yet", accepted="attnlab report writes one")
    ended = results.reported_ablations(folder)
    for one in ended:
        registered = read_registration(one.folder)
        if digest(registered["declared"]) != registered["hash"]:
            yield f"{one.folder}/{REGISTRATION}: the declaration does not match its hash"
        for cell, outcome in one.outcomes.items():
            if outcome.status == "finished":
                yield from (f"{cell.label}: {line}" for line in run_differences(cell.folder))
    try:
        computed = results.results_of(ended, folder)
    except UserError as error:  # the files of a run contradict each other
        yield error.sentence()
        return
    yield from (f"{RESULTS}: {line}" for line in differences(stored, computed))


def run_differences(folder: Path) -> Iterator[str]:
    """Yield the differences in a finished run: its identity and the hashes of its files."""
    run = RunFolder(folder)
    manifest, described = run.manifest(), run.identity()
    if manifest is None:
        yield f"{MANIFEST}: is missing"
        return
    if described is None or identity.run_hash(described) != manifest["run_hash"]:
        yield f"{IDENTITY}: does not match the run hash in {MANIFEST}"
    deleted = not run.model.exists()  # `keep` decides whose weights stay
    for name, expected in manifest["files"].items():
        path = inside(folder, name, str(folder / MANIFEST))
        if not path.exists():
            if not (deleted and name.startswith(f"{MODEL}/")):
                yield f"{name}: is missing"
        elif atomic.sha256_of(path) != expected:
            yield f"{name}: has changed since the run finished"


def differences(stored: object, computed: object, where: str = "") -> Iterator[str]:
    """Yield the fields in which two JSON values differ, each as "where: stored -> computed"."""
    if isinstance(stored, Mapping) and isinstance(computed, Mapping):
        for name in sorted(stored.keys() | computed.keys()):
            inner = f"{where}.{name}" if where else name
            yield from differences(stored.get(name), computed.get(name), inner)
    elif isinstance(stored, list) and isinstance(computed, list) and len(stored) == len(computed):
        for index, (before, now) in enumerate(zip(stored, computed)):
            yield from differences(before, now, f"{where}[{_name_of(before, index)}]")
    elif not _equal(stored, computed, where):
        yield f"{where}: {stored!r} -> {computed!r}"


def _name_of(item: object, index: int) -> str:
    """Return the name of a comparison, or the index of any other item."""
    if isinstance(item, Mapping) and "metric" in item:
        return f"{item['cell']} / {item['arm']} / {item['metric']}"
    return str(index)


def _equal(stored: object, computed: object, where: str) -> bool:
    is_flag = isinstance(stored, bool) or isinstance(computed, bool)
    if is_flag or not isinstance(stored, int | float) or not isinstance(computed, int | float):
        return stored == computed
    if "bootstrap.counts" in where:
        return abs(stored - computed) <= MOST_MOVED
    tolerance = BOOTSTRAP_TOLERANCE if "bootstrap" in where else TOLERANCE
    return math.isclose(stored, computed, rel_tol=tolerance, abs_tol=tolerance * 1e-3)
