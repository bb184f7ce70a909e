"""The ledger in results.json: the looks that the test sets of a report have had, read with error control."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from operator import itemgetter
from pathlib import Path
from typing import Any

from pipelines.ablation import ledger
from pipelines.ablation.ledger import LedgerLine, NotedLook
from pipelines.ablation.preregistration import read_registration, seal, short
from pipelines.ablation.results import EndedAblation
from pipelines.comparison.online import e_lond
from pipelines.comparison.scored_run import hash_of_test
from pipelines.errors import UserError
from pipelines.hub.contents import CONTENTS
from pipelines.runs.manifest import read_manifest
from pipelines.shown import plural
from pipelines.storage import reading
from pipelines.storage.lock import ReadOnly
from pipelines.storage.names import LEDGER, RESULTS
from pipelines.storage.run_folder import RunFolder

Json = Mapping[str, Any]
READING = ("e", "needed", "claimed")
ENDED = ("finished", "diverged")


def record(results: dict[str, Any], ended: Sequence[EndedAblation], say: Callable[[str], object]) -> None:
    """Note the primary comparisons of results in the ledger of their store, and put its reading into them.

    Looks at a store that this process may not write are told, and count in the results only.

    Raises:
        UserError: the ledger is damaged.
    """
    entries: list[Sequence[LedgerLine]] = []
    unrecorded: list[NotedLook] = []
    heads: dict[str, str] = {}
    for store, ablations in _by_store(ended).items():
        lines: list[LedgerLine] = []
        for one in ablations:
            tests, rows = _tests(one, results["comparisons"]), _own_rows(one, results["comparisons"])
            looks = ledger.looks_of(rows, tests, _seal(one), _ended(one), _planned(one))
            try:
                lines = ledger.note(store, looks)
            except ReadOnly:
                lines = ledger.read(store)
                unrecorded += (new := ledger.new_looks(lines, looks))
                what = f"may not be written, so it does not record {plural(len(new), 'look')} at {one.folder}"
                say(f"{store / LEDGER}: {what}; attnlab report {one.folder}, by its owner, does")
            heads[one.folder.resolve().name] = lines[-1]["hash"] if lines else ""
        entries.append(lines)
    tests = _all_tests(ended, results["comparisons"])
    prefixes = _prefixes(ended)
    shown = _shown(entries, tests, prefixes)
    shown += ({**look, "recorded": False} for look in _shown([unrecorded], tests, prefixes))
    results["ledger"] = {"heads": heads, "tests": tests, "looks": _read(shown)}


def record_comparison(
    results: dict[str, Any], folder: Path, identity: str, tests: Mapping[str, str], count: int
) -> None:
    """Note a comparison after the fact in the ledger beside its folder, and put its reading into the results.

    Args:
        identity: hash of what is compared.
        tests: cell -> hash of its examples.
        count: files that are compared.

    Raises:
        UserError: the ledger is damaged.
    """
    looked = ledger.looks_of(results["comparisons"], tests, identity, count, count)
    lines = ledger.note(folder.resolve().parent, looked)
    heads = {folder.resolve().name: lines[-1]["hash"] if lines else ""}
    results["ledger"] = {
        "heads": heads,
        "tests": dict(tests),
        "looks": _read(_shown([lines], tests, {identity: ""})),
    }


def misread(stored: Json | None) -> Iterator[str]:
    """Yield whether the reading in the ledger of results.json is not what its looks give."""
    looked = (stored or {}).get("looks", ())
    shown = [{name: value for name, value in look.items() if name not in READING} for look in looked]
    if _read(shown) != list(looked):
        yield f"{RESULTS}: ledger: the reading is not what its looks give"


def differences(stored: Json, rows: Sequence[Json], ended: Sequence[EndedAblation]) -> Iterator[str]:
    """Yield what of the ledger in results.json is not what its looks, its rows and the store's ledger say.

    Args:
        stored: the ledger in results.json.
        rows: the comparisons, computed again.

    Raises:
        UserError: the ledger of the store is damaged.
    """
    yield from misread(stored)
    shown = [{name: value for name, value in look.items() if name not in READING} for look in stored["looks"]]
    last = {(look["cell"], look["arm"], look["metric"]): look["p"] for look in stored["looks"]}
    for row in rows:
        name = row["cell"], row["arm"], row["metric"]
        if row["primary"] and row["split"] is not None and not _is_near(last.get(name, math.nan), row["p"]):
            yield f"{RESULTS}: ledger: does not hold the look at {' / '.join(name)}"
    kept: list[Sequence[LedgerLine]] = []
    for store, ablations in _by_store(ended).items():
        lines = ledger.read(store)
        yield from _lost(store, ablations, lines)
        heads = [stored["heads"].get(one.folder.resolve().name, "") for one in ablations]
        places = [place for place, line in enumerate(lines) if line["hash"] in heads]
        if not reading.is_there(store / LEDGER) and (store / CONTENTS).is_file():
            return  # a pushed report carries the looks, not the ledger
        if len(places) < len(set(heads) - {""}):
            yield f"{LEDGER}: does not hold the look after which {RESULTS} was written"
            return
        kept.append(lines[: max(places, default=-1) + 1])
    noted = [look for look in shown if look.get("recorded", True)]
    if _shown(kept, _all_tests(ended, rows), _prefixes(ended)) != noted:
        yield f"{RESULTS}: ledger: its looks are not those of {LEDGER}"


def _lost(store: Path, ablations: Sequence[EndedAblation], lines: Sequence[LedgerLine]) -> Iterator[str]:
    """Yield what is gone: looks before a registration or of a report beside it, runs that were seen."""
    known = {line["hash"] for line in lines}
    if not reading.is_there(store / LEDGER) and (store / CONTENTS).is_file():
        return  # a pushed report carries the looks, not the ledger
    for one in ablations:
        if read_registration(one.folder).get("ledger", "") not in {"", *known}:
            yield f"{LEDGER}: does not hold the last look before {one.folder.name} was registered"
        seen = max((line["finished"] for line in lines if line["ablation"] == _seal(one)), default=0)
        if seen > (over := _ended(one)):
            yield f"{LEDGER}: {seen} runs of {one.folder.name} had ended at a look, and now {over} have"
    own = {one.folder.resolve().name for one in ablations}
    for path in sorted(store.glob(f"*/{RESULTS}")):
        name = path.parent.name
        if name not in own and _head(path, name) not in {"", *known}:
            yield f"{LEDGER}: does not hold the look after which {name}/{RESULTS} was written"


def _head(results: Path, name: str) -> str:
    """Return the last look that a report beside this one had seen; "" where it says none, or is damaged."""
    try:
        stored = reading.json_object(results, "")
    except UserError:
        return ""
    heads = (stored.get("ledger") or {}).get("heads") or {}
    return str(heads.get(name, ""))


def _is_near(noted: float | None, now: float | None) -> bool:
    """Return whether two p values are the same but for the last bits; NaN is near none."""
    return noted == now or (noted is not None and now is not None and math.isclose(noted, now, rel_tol=1e-9))


# ---- what is shown
def _in_order(ledgers: Iterable[Sequence[NotedLook]]) -> list[NotedLook]:
    """Return the lines of some ledgers by time; those of one stay in its order, whatever its clock said."""
    found: list[tuple[str, NotedLook]] = []
    for lines in ledgers:
        clocks = accumulate((line["time"] for line in lines), max)
        found += zip(clocks, lines)
    return [line for _, line in sorted(found, key=itemgetter(0))]


def _shown(
    ledgers: Iterable[Sequence[NotedLook]], tests: Mapping[str, str], prefixes: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the looks at some test sets by time; of other ablations without the names of their arms.

    Args:
        ledgers: the lines of each store.
        prefixes: those of the names of cells, by the seal of each ablation of the report.
    """
    found = []
    for line in _in_order(ledgers):
        if line["test"] not in tests.values():
            continue
        own = line["ablation"] in prefixes
        found.append(
            {
                "test": line["test"],
                "time": line["time"],
                "ablation": short(line["ablation"]),
                "cell": prefixes[line["ablation"]] + line["cell"] if own else None,
                "arm": line["arm"] if own else None,
                "metric": line["metric"] if own else None,
                "p": line["p"],
                "finished": line["finished"],
                "planned": line["planned"],
            }
        )
    return found


def _read(looks: Sequence[Json]) -> list[dict[str, Any]]:
    """Return looks with their reading by e-LOND, for each test set; a look without p is not read."""
    told: list[dict[str, Any]] = [{**look, **dict.fromkeys(READING)} for look in looks]
    for test in dict.fromkeys(look["test"] for look in looks):
        at = [look for look in told if look["test"] == test and look["p"] is not None]
        for look, found in zip(at, e_lond([look["p"] for look in at])):
            e = found.e if math.isfinite(found.e) else None
            look.update(e=e, needed=found.needed, claimed=found.claimed)
    return told


# ---- the ablations behind it
def _prefixes(ended: Sequence[EndedAblation]) -> dict[str, str]:
    return {_seal(one): one.prefix for one in ended}


def _by_store(ended: Sequence[EndedAblation]) -> dict[Path, list[EndedAblation]]:
    found: dict[Path, list[EndedAblation]] = {}
    for one in ended:
        found.setdefault(one.folder.resolve().parent, []).append(one)
    return found


def _seal(one: EndedAblation) -> str:
    return seal(read_registration(one.folder))


def _ended(one: EndedAblation) -> int:
    return sum(outcome.status in ENDED for outcome in one.outcomes.values())


def _planned(one: EndedAblation) -> int:
    return len(one.config.cells) * len(one.config.arms) * len(one.config.seeds)


def _own_rows(one: EndedAblation, rows: Sequence[Json]) -> list[dict[str, Any]]:
    """Return the rows of one ablation, with its own names of cells."""
    names = {one.prefix + name: name for name in one.config.cells}
    return [{**row, "cell": names[row["cell"]]} for row in rows if row["cell"] in names]


def _tests(one: EndedAblation, rows: Sequence[Json]) -> dict[str, str]:
    """Return the hash of the examples that each cell is scored on; cells without a finished run have none."""
    splits = {row["cell"]: row["split"] for row in _own_rows(one, rows)}
    found: dict[str, str] = {}
    for cell, outcome in one.outcomes.items():
        if outcome.status == "finished" and cell.cell in splits and cell.cell not in found:
            manifest = read_manifest(RunFolder(cell.folder))
            data: Json = manifest["data"] if manifest is not None else {}
            found[cell.cell] = hash_of_test(data, splits[cell.cell]) or f"unknown, {short(_seal(one))}"
    return found


def _all_tests(ended: Sequence[EndedAblation], rows: Sequence[Json]) -> dict[str, str]:
    return {one.prefix + cell: test for one in ended for cell, test in _tests(one, rows).items()}
