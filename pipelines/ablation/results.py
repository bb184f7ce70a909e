"""Results and reports of one ablation, or of several as one family, from their stored runs."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from pipelines import report
from pipelines.ablation import sides
from pipelines.ablation.anchor import read_anchor
from pipelines.ablation.cell import Cell, Outcome
from pipelines.ablation.declaration import Deviation
from pipelines.ablation.folder import StoredAblation, open_ablation, written_by_ablate
from pipelines.ablation.preregistration import deviations, read_registration
from pipelines.ablation.recipe import of_cell
from pipelines.ablation.search import read_search, setting_of
from pipelines.comparison import compare
from pipelines.comparison.results import CHANGED, Results, to_json
from pipelines.config.load import AblationConfig
from pipelines.errors import UserError, without_values
from pipelines.report.data import RunLink
from pipelines.storage import atomic, reading, run_files
from pipelines.storage.names import RESULTS, RUNS, SEARCH, TOGETHER
from pipelines.storage.run_folder import RunFolder
from pipelines.storage.sealed import digest

TOLD = ("declared", "hash", "time", "anchor", "finished_before")  # of a registration, in results.json
MOST_CHANGES = 5  # told in a flag


@dataclass(frozen=True)
class EndedAblation:
    """An ablation and the outcome of each of its runs."""

    config: AblationConfig
    outcomes: Mapping[Cell, Outcome]
    folder: Path
    tries: Sequence[Cell] = ()  # runs of its search
    prefix: str = ""  # of the names of its cells, if another ablation has cells of the same names

    @property
    def runs(self) -> tuple[Cell, ...]:
        """Every run that its numbers come from: those of the search, then those of the grid."""
        return (*self.tries, *self.outcomes)


def ended_ablation(folder: Path) -> EndedAblation:
    """Read the ablation in a folder, with the runs that have ended so far.

    Raises:
        UserError: it is not an ablation folder, its plan lacks a run, or no run of it has finished.
    """
    stored = open_ablation(folder)
    _refuse_gaps(stored)
    ended = EndedAblation(stored.config, stored.outcomes(), folder, stored.tries)
    if not any(outcome.status == "finished" for outcome in ended.outcomes.values()):
        raise UserError(str(folder), "no run has finished yet", accepted="see attnlab status")
    return ended


def _refuse_gaps(stored: StoredAblation) -> None:
    """Refuse a plan that names some runs of the grid and lacks others: nobody would miss them.

    Raises:
        UserError: it names the first one.
    """
    config, known = stored.config, {(run.cell, run.arm, run.seed) for run in stored.cells}
    for run in product(config.cells, config.arms, config.seeds) if known else ():
        if run not in known:
            what = f"does not name the run {'/'.join(map(str, run))}"
            raise UserError(str(stored.folder / RUNS), what, accepted=written_by_ablate(stored.folder))


def reported_ablations(folder: Path) -> list[EndedAblation]:
    """Read the ablations of a folder's report: its own, or those that were reported together."""
    if not reading.is_there(folder / TOGETHER):
        return [ended_ablation(folder)]
    fix = f"attnlab report FOLDER... --out {folder} writes it again"
    several = reading.checked(
        list[str], reading.json_value(folder / TOGETHER, fix), str(folder / TOGETHER), fix
    )
    return with_unique_cells([ended_ablation(Path(os.path.normpath(folder / path))) for path in several])


def with_unique_cells(ended: Sequence[EndedAblation]) -> list[EndedAblation]:
    """Prefix cells with the name of their ablation's folder if another ablation has a cell of that name.

    Raises:
        UserError: the ablations have different baselines.
    """
    baselines = {one.config.baseline for one in ended}
    if len(baselines) > 1:
        raise UserError("report", "the ablations have different baselines", ", ".join(sorted(baselines)))
    names = [name for one in ended for name in one.config.cells]
    shared = {name for name in names if names.count(name) > 1}
    return [
        replace(one, prefix=f"{one.folder.resolve().name}: " if shared & set(one.config.cells) else "")
        for one in ended
    ]


def results_of(ended: Sequence[EndedAblation], folder: Path) -> dict[str, Any]:
    """Compute the content of results.json from the statistics of the finished runs.

    Paths of run folders in it are relative to `folder`.

    Raises:
        UserError: a run is not what the grid says, a result of it is missing or has changed, or runs cannot
            be compared.
    """
    for one in ended:
        sides.require(one.folder, one.runs)
        for cell, outcome in one.outcomes.items():
            if outcome.status == "finished":
                manifest = RunFolder(cell.folder).manifest() or {}
                run_files.require(cell.folder, manifest, run_files.is_result)
    registered = _registered(ended)
    results = compare.combine([_part(one) for one in ended], _registration(registered), folder)
    _mark_changed(results, ended, registered)
    for one in ended:
        record = read_search(one.folder) if one.config.search else None
        if record is None:
            continue
        for name, arms in record["cells"].items():
            for arm, found in arms.items():
                about = results["arms"].get(one.prefix + name, {}).get(arm)
                if about is None:
                    what, fix = f"names {name} / {arm}, which the ablation has not", "delete it"
                    raise UserError(str(one.folder / SEARCH), what, accepted=fix)
                about["search"] = {"seeds": record["seeds"], **found}
    results["recipe"] = _recipes(ended, results["arms"])
    return results


def _recipes(ended: Sequence[EndedAblation], arms: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe of every cell, as JSON."""
    found = {}
    for one in ended:
        for name in one.config.cells:
            about = arms[one.prefix + name]
            chosen = {arm: setting_of(facts["search"]) for arm, facts in about.items() if "search" in facts}
            recipe = of_cell(one.config, name, chosen, _num_examples(one, name))
            found[one.prefix + name] = to_json(recipe)
    return found


def _num_examples(ended: EndedAblation, name: str) -> Mapping[str, int]:
    """Return the examples of every split, as a finished run of the cell has counted them."""
    for cell, outcome in ended.outcomes.items():
        if cell.cell == name and outcome.status == "finished":
            link = RunLink(name, cell.arm, cell.seed, cell.folder, "")
            return link.record.data.num_examples if link.record is not None else {}
    return {}


def read_results(folder: Path) -> dict[str, Any] | None:
    """Return the content of results.json; None where none was written.

    Raises:
        UserError: the file is damaged, or an entry of it has another type.
    """
    fix = f"attnlab report {shlex.quote(str(folder))} writes it again"
    found: dict[str, Any] | None = reading.json_object_if_there(folder / RESULTS, fix)
    if found is not None:
        reading.checked(Results, found, str(folder / RESULTS), fix)
    return found


def write(results: Mapping[str, Any], folder: Path) -> None:
    """Write results.json into `folder`, and the reports of what it then holds, as `verify` renders them."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_json(folder / RESULTS, results)
    report.write(read_results(folder) or {}, folder)  # its names are in another order


def _part(ended: EndedAblation) -> compare.Part:
    prefix, ablation = ended.prefix, ended.config.stated()
    ablation["cells"] = {prefix + name: cell for name, cell in ablation["cells"].items()}
    ordered = sorted(ended.outcomes.items(), key=lambda item: (item[0].cell, item[0].arm, item[0].seed))
    runs = {
        (prefix + cell.cell, cell.arm, cell.seed): cell.folder
        for cell, outcome in ordered
        if outcome.status == "finished"
    }
    failures = [_failure(cell, outcome, prefix) for cell, outcome in ordered if outcome.status != "finished"]
    return compare.Part(ablation, runs, failures)


def _failure(cell: Cell, outcome: Outcome, prefix: str) -> dict[str, Any]:
    return {
        "cell": prefix + cell.cell,
        "arm": cell.arm,
        "seed": cell.seed,
        "run": cell.folder.name,
        "status": outcome.status,
        "step": (RunFolder(cell.folder).manifest() or {}).get("diverged_at"),
        "reason": outcome.reason if cell.config["data"]["publish_text"] else without_values(outcome.reason),
    }


@dataclass(frozen=True)
class _Registered:
    """The registration of one ablation, and what has changed since; cells have the names of the report."""

    name: str
    stored: Mapping[str, Any]
    deviations: Sequence[Deviation]


def _registered(ended: Sequence[EndedAblation]) -> list[_Registered]:
    found = []
    for one in ended:
        stored = read_registration(one.folder)
        known = [
            replace(change, cell=one.prefix + change.cell) if change.cell is not None else change
            for change in deviations(stored, one.config, one.runs)
        ]
        told = {**stored, "anchor": read_anchor(one.folder)}
        found.append(_Registered(one.folder.resolve().name, told, known))
    return found


def _registration(registered: Sequence[_Registered]) -> dict[str, Any]:
    """Return the registration of one ablation, or those of several as one."""
    each = {
        one.name: {
            **{name: one.stored[name] for name in TOLD if one.stored.get(name) is not None},
            "changed_afterwards": [str(change) for change in one.deviations],
        }
        for one in registered
    }
    if len(each) == 1:
        return next(iter(each.values()))
    before: Counter[str] = Counter()
    for known in each.values():
        before.update(known.get("finished_before") or {})
    return {
        "hash": digest({name: known["hash"] for name, known in each.items()}),
        "time": ", ".join(sorted({known["time"] for known in each.values()})),
        "finished_before": dict(before),
        "changed_afterwards": [
            f"{change} ({name})" for name, known in each.items() for change in known["changed_afterwards"]
        ],
        "ablations": each,
    }


def _mark_changed(
    results: dict[str, Any], ended: Sequence[EndedAblation], registered: Sequence[_Registered]
) -> None:
    """Say of every comparison whether something that it rests on has changed after the registration."""
    for one, known in zip(ended, registered):
        names = {one.prefix + name for name in one.config.cells}
        for row in results["comparisons"]:
            found = [change for change in known.deviations if row["cell"] in names and change.bears_on(row)]
            if found:
                more = f" and {len(found) - MOST_CHANGES} more" if len(found) > MOST_CHANGES else ""
                row["verdict"] += f", {CHANGED}"
                row["flags"].append(f"{CHANGED}: {'; '.join(map(str, found[:MOST_CHANGES]))}{more}")
