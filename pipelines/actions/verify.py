"""`attnlab verify`: check every file hash and compute every number of a report again."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from pipelines import report
from pipelines.ablation import alike, anchor, chain, looks, results, sides
from pipelines.ablation.cell import outcome_of
from pipelines.ablation.preregistration import deviations, read_registration
from pipelines.ablation.search import judge, read_search
from pipelines.actions import compare, rejudged
from pipelines.actions import replay as replaying
from pipelines.actions.answers import Verified
from pipelines.comparison import rescored
from pipelines.comparison.results import CHANGED, JUDGED
from pipelines.errors import RunFailed, UserError
from pipelines.hub.contents import CONTENTS
from pipelines.runs import intact, logged
from pipelines.runs.locate import find_record
from pipelines.shown import plural, printable
from pipelines.storage import atomic, reading
from pipelines.storage.names import (
    COMPARISON,
    MANIFEST,
    METRICS_LOG,
    REGISTRATION,
    REPORT,
    REPORTS,
    RESULTS,
    RUNS,
    SEARCH,
    TOGETHER,
)
from pipelines.storage.paths import inside
from pipelines.storage.run_folder import RunFolder
from pipelines.storage.sealed import digest, without_seal

RECIPE, LEDGER_IN_RESULTS = "recipe", "ledger"  # of results.json, since 0.2
TOLERANCE = 1e-9  # relative; a sum in another order changes the last bits of a float64
BOOTSTRAP_TOLERANCE = 1e-4  # relative; its products are in float32
MOST_MOVED = 3  # resamples of a histogram that may change their bin
MOST_LINES = 40
ENDED = ("finished", "diverged")


class ReportsRecord(TypedDict):
    """The content of reports.json."""

    renderer: str
    files: dict[str, str]


def verify_command(folder: str, *, replay: int = 0) -> Verified:
    """Check an ablation, a comparison or a run, print every difference, and return them; there are none.

    Args:
        replay: runs to train again; of an ablation, those that are drawn at random.

    Raises:
        UserError: the folder is neither.
        RunFailed: there are differences.
    """
    path = find_record(folder)
    if reading.is_there(path / COMPARISON):
        if replay:
            what = "nothing was trained here, so nothing can be trained again"
            raise UserError("--replay", what, accepted="leave it out")
        found = list(comparison_differences(path))
    elif reading.is_there(path / RUNS) or reading.is_there(path / TOGETHER):
        found = [*ablation_differences(path), *_of_replay(path, replay)]
    elif reading.is_there(path / MANIFEST):
        again = replaying.differences(folder, path) if replay else ()
        found = [*run_differences(path), *again]
    else:
        what = f"is neither a run, an ablation nor a comparison: no {MANIFEST}, no {RUNS}, no {COMPARISON}"
        raise UserError(folder, what)
    for line in found[:MOST_LINES]:
        print(printable(line))
    if len(found) > MOST_LINES:
        print(printable(f"... and {len(found) - MOST_LINES} more"))
    if found:
        answer = Verified(folder=folder, intact=False, differences=found)
        raise RunFailed(f"{folder}: {plural(len(found), 'difference')}", answer)
    sentence = "every file is as its run wrote it, every number is what the stored statistics give"
    print(printable(f"{folder}: {sentence}"))
    return Verified(folder=folder, intact=True, differences=[])


def comparison_differences(folder: Path) -> Iterator[str]:
    """Yield the differences in a comparison after the fact: files, records, results, reports."""
    stored = results.read_results(folder)
    if stored is None:
        raise UserError(str(folder), f"has no {RESULTS} yet", accepted=compare.AGAIN)
    yield from compare.differences(folder, stored)
    yield from rejudged.differences(folder)
    try:
        computed = compare.results_of(folder)
    except UserError as error:
        yield error.sentence()
        return
    numbers = {name: value for name, value in stored.items() if name != LEDGER_IN_RESULTS}
    yield from (f"{RESULTS}: {line}" for line in differences(numbers, computed))
    yield from _of_reports(folder, stored)


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
    written, rows = stored, computed["comparisons"]
    if RECIPE not in stored:
        print(
            printable(f"{RESULTS}: it has no {RECIPE}, so none is compared; attnlab report {folder} adds it")
        )
        stored, computed = _as_0_1(stored), _as_0_1(computed)
    if stored.get("rules") != computed["rules"]:
        what = "other rules gave its p values, intervals and verdicts, so they are not compared"
        yield f"{RESULTS}: {what}; attnlab report {folder} writes it again"
        stored, computed = map(_without_judgement, (stored, computed))
    numbers = {name: value for name, value in stored.items() if name != LEDGER_IN_RESULTS}
    yield from (f"{RESULTS}: {line}" for line in differences(numbers, computed))
    yield from _of_ledger(written, rows, ended)
    yield from _of_reports(folder, written)


def _without_judgement(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return results without what follows from the rules of judging."""
    rows = [{name: row[name] for name in row if name not in JUDGED} for row in results["comparisons"]]
    return {**results, "comparisons": rows, "rules": None, "summaries": None}


def _of_runs(ended: results.EndedAblation) -> Iterator[str]:
    """Yield the differences in the registration and in the runs of one ablation that have ended."""
    _say_what_a_push_has_not(ended.folder)
    yield from registration_differences(ended)
    over = [cell for cell in ended.runs if outcome_of(cell).status in ENDED]
    of_files = (f"{cell.label}: {line}" for cell in over for line in run_differences(cell.folder))
    yield from dict.fromkeys([*of_files, *sides.differences(ended.runs), *alike.differences(over)])
    yield from _of_search(ended)


def _say_what_a_push_has_not(folder: Path) -> None:
    """Say what cannot be checked of a copy that was pushed: what is missing beside it is no difference."""
    if (folder.parent / CONTENTS).is_file():
        without = "its predictions, its ledger and the ablations beside it are not in it, and not checked"
        print(printable(f"{folder.parent}: it has {CONTENTS}, so it is a copy that was pushed: {without}"))


def registration_differences(ended: results.EndedAblation) -> Iterator[str]:
    """Yield what of an ablation is not as it was registered before its runs."""
    registered, where = read_registration(ended.folder), f"{ended.folder}/{REGISTRATION}"
    if digest(registered["declared"]) != registered["hash"]:
        yield f"{where}: the declaration does not match its hash"
    if "settings" not in registered["declared"]:
        print(printable(f"{where}: attnlab 0.1 declared no settings, data or sources, so none is compared"))
    yield from (
        f"{where}: {CHANGED}: {change}" for change in deviations(registered, ended.config, ended.runs)
    )
    of_anchor = anchor.check(ended.folder, registered)
    for note in of_anchor.notes:
        print(printable(f"{where}: {note}"))
    yield from (f"{where}: {line}" for line in of_anchor.findings)
    contradict = chain.differences(ended.folder, registered, ended.config.baseline, ended.runs)
    yield from (f"{where}: {line}" for line in contradict)


def _of_ledger(
    stored: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], ended: Sequence[results.EndedAblation]
) -> Iterator[str]:
    """Yield where the looks in results.json are not those of the ledger, or not what the ledger gives."""
    if LEDGER_IN_RESULTS not in stored:
        if RECIPE in stored:
            print(printable(f"{RESULTS}: it has no ledger of looks; attnlab report adds it"))
        return
    try:
        yield from looks.differences(stored[LEDGER_IN_RESULTS], rows, ended)
    except UserError as error:
        yield error.sentence()


def _of_replay(folder: Path, count: int) -> Iterator[str]:
    """Yield which of the runs that chance draws are different when trained again."""
    for one in results.reported_ablations(folder) if count else ():
        over = [cell for cell in one.runs if outcome_of(cell).status in ENDED]
        for cell in replaying.drawn(
            list({cell.folder: cell for cell in over}.values()), replaying.new_digest(), count
        ):
            yield from replaying.differences(cell.label, cell.folder)


def _of_search(ended: results.EndedAblation) -> Iterator[str]:
    """Yield where the record of the search is not what its runs give."""
    record = read_search(ended.folder) if ended.config.search else None
    if record is None:
        return
    try:
        computed = judge(ended.config, {cell: outcome_of(cell) for cell in ended.tries})
    except KeyError:
        yield f"{SEARCH}: {RUNS} has not every run of the search, so none is compared"
        return
    yield from (f"{SEARCH}: {line}" for line in differences(without_seal(record), computed))


def _of_reports(folder: Path, stored: Mapping[str, Any]) -> Iterator[str]:
    """Yield the reports that are not what their results are rendered as.

    Another version of attnlab renders other texts, so they cannot be compared. What says so may be forged:
    that is a difference. Of what was downloaded, and of 0.1, the hashes in its record are all there is.
    """
    fix = f"attnlab report {folder} writes it again"
    is_old = "rules" not in stored or (folder.parent / CONTENTS).is_file()
    record = reading.json_object_if_there(folder / REPORTS, fix, ReportsRecord)
    if record is None:
        if reading.is_there(folder / REPORT):
            said = f"{REPORT}: there is no {REPORTS}, so it is not compared; {fix}"
            yield from _told(said, is_old)
        return
    expected: Mapping[str, str] = record["files"]
    if record["renderer"] == report.renderer():
        texts = report.render(stored, folder)
        expected = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    else:
        said = f"{REPORT}: another version rendered it, so it is held against {REPORTS} only; {fix}"
        yield from _told(said, is_old)
    for name, rendered in expected.items():
        path = inside(folder, name, str(folder / REPORTS))
        if not path.is_file():
            yield f"{name}: is missing, or is no file; {fix}"
        elif atomic.sha256_of(path) != rendered:
            yield f"{name}: is not what {RESULTS} is rendered as"


def _told(what: str, is_note: bool) -> Iterator[str]:
    """Yield a difference; a note is printed instead."""
    if is_note:
        print(printable(what))
    else:
        yield what


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
    if METRICS_LOG not in known:
        yield from (f"{name}: {what}" for name, what in logged.differences(run, manifest))


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


def _as_0_1(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return results without what attnlab 0.1 did not tell: the recipe, and what changed in which row."""
    rows = []
    for row in results["comparisons"]:
        flags = [flag for flag in row["flags"] if not flag.startswith(CHANGED)]
        rows.append({**row, "verdict": row["verdict"].removesuffix(f", {CHANGED}"), "flags": flags})
    known = results["registration"] or {}
    each = known.get("ablations") or {}
    kept = {name: _without_changes(one) for name, one in each.items()}
    registration = _without_changes(known) | ({"ablations": kept} if kept else {})
    told = {name: value for name, value in results.items() if name != RECIPE}
    return {**told, "comparisons": rows, "registration": registration}


def _without_changes(registration: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in registration.items() if name != "changed_afterwards"}


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
