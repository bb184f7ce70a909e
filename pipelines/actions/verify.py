"""`attnlab verify`: check every file hash and compute every number of a report again."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from pipelines import report
from pipelines.ablation import results
from pipelines.ablation.preregistration import digest, read_registration
from pipelines.comparison import rescored
from pipelines.comparison.results import JUDGED
from pipelines.errors import RunFailed, UserError
from pipelines.runs import identity, intact
from pipelines.runs.locate import find_record
from pipelines.shown import printable
from pipelines.storage import atomic, reading
from pipelines.storage.names import (
    ABLATION,
    MANIFEST,
    REGISTRATION,
    REPORT,
    REPORTS,
    RESULTS,
    RUNS,
    TOGETHER,
)
from pipelines.storage.paths import inside
from pipelines.storage.run_folder import RunFolder

RECIPE = "recipe"  # of results.json, since 0.2
TOLERANCE = 1e-9  # relative; a sum in another order changes the last bits of a float64
BOOTSTRAP_TOLERANCE = 1e-4  # relative; its products are in float32
MOST_MOVED = 3  # resamples of a histogram that may change their bin
MOST_LINES = 40


class ReportsRecord(TypedDict):
    """The content of reports.json."""

    renderer: str
    files: dict[str, str]


def verify_command(folder: str) -> None:
    """Check an ablation or a run and print every difference.

    Raises:
        UserError: the folder is neither.
        RunFailed: there are differences.
    """
    path = find_record(folder)
    if reading.is_there(path / RUNS) or reading.is_there(path / TOGETHER):
        found = list(ablation_differences(path))
    elif reading.is_there(path / MANIFEST):
        found = list(run_differences(path))
    else:
        raise UserError(folder, f"is neither a run nor an ablation: no {MANIFEST}, no {RUNS}")
    for line in found[:MOST_LINES]:
        print(printable(line))
    if len(found) > MOST_LINES:
        print(printable(f"... and {len(found) - MOST_LINES} more"))
    if found:
        raise RunFailed(f"{folder}: {len(found)} differences")
    sentence = "every file is as its run wrote it, every number is what the stored statistics give"
    print(printable(f"{folder}: {sentence}"))


def ablation_differences(folder: Path) -> Iterator[str]:
    """Yield the differences in an ablation: registration, runs, results, reports."""
    stored = results.read_results(folder)
    if stored is None:
        raise UserError(str(folder), f"has no {RESULTS} yet", accepted="attnlab report writes one")
    ended = results.reported_ablations(folder)
    changed = [line for one in ended for line in _of_runs(one)]
    yield from changed
    try:
        computed = results.results_of(ended, folder)
    except UserError as error:  # a run is damaged, or runs contradict each other
        if changed:
            yield f"{RESULTS}: cannot be computed again"
        else:
            yield error.sentence()
        return
    written = stored
    if RECIPE not in stored:
        print(
            printable(f"{RESULTS}: it has no {RECIPE}, so none is compared; attnlab report {folder} adds it")
        )
        del computed[RECIPE]
    if stored.get("rules") != computed["rules"]:
        what = "other rules gave its p values, intervals and verdicts, so they are not compared"
        yield f"{RESULTS}: {what}; attnlab report {folder} writes it again"
        stored, computed = map(_without_judgement, (stored, computed))
    yield from (f"{RESULTS}: {line}" for line in differences(stored, computed))
    yield from _of_reports(folder, written)


def _without_judgement(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return results without what follows from the rules of judging."""
    rows = [{name: row[name] for name in row if name not in JUDGED} for row in results["comparisons"]]
    return {**results, "comparisons": rows, "rules": None, "summaries": None}


def _of_runs(ended: results.EndedAblation) -> Iterator[str]:
    """Yield the differences in the registration and the finished runs of one ablation."""
    registered = read_registration(ended.folder)
    if digest(registered["declared"]) != registered["hash"]:
        yield f"{ended.folder}/{REGISTRATION}: the declaration does not match its hash"
    for cell, outcome in ended.outcomes.items():
        if outcome.status == "finished":
            yield from (f"{cell.label}: {line}" for line in run_differences(cell.folder))
            described = RunFolder(cell.folder).identity()
            for line in identity.other_settings(described, cell.config) if described else ():
                yield f"{cell.label}: is not the run of {ABLATION}: {line}"


def _of_reports(folder: Path, stored: Mapping[str, Any]) -> Iterator[str]:
    """Yield the reports that are not what their results are rendered as.

    Another version of attnlab renders other texts: what it wrote is held against the hashes in its record.
    """
    fix = f"attnlab report {folder} writes it again"
    record = reading.json_object_if_there(folder / REPORTS, fix, ReportsRecord)
    if record is None:
        if reading.is_there(folder / REPORT):
            print(printable(f"{REPORT}: its attnlab kept no {REPORTS}, so it is not compared; {fix}"))
        return
    expected: Mapping[str, str] = record["files"]
    if record["renderer"] == report.renderer():
        texts = report.render(stored, folder)
        expected = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    else:
        held = f"held against {REPORTS} only"
        print(printable(f"{REPORT}: another version rendered it, so it is {held}; {fix}"))
    for name, rendered in expected.items():
        path = inside(folder, name, str(folder / REPORTS))
        if not path.is_file():
            yield f"{name}: is missing, or is no file; {fix}"
        elif atomic.sha256_of(path) != rendered:
            yield f"{name}: is not what {RESULTS} is rendered as"


def run_differences(folder: Path) -> Iterator[str]:
    """Yield the differences in a finished run: its identity, its files, its scores and statistics."""
    run = RunFolder(folder)
    manifest = run.manifest()
    if manifest is None:
        yield f"{MANIFEST}: is missing"
        return
    changed = intact.differences(run, manifest)
    yield from (f"{name}: {what}" for name, what in changed)
    known = {name for name, _ in changed}
    numbers = rescored.differences(folder, manifest)
    yield from (f"{name}: {what}" for name, what in numbers if name not in known)


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
