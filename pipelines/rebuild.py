"""Results and reports of ablations from what their runs have stored: one folder, or several as one family."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from pipelines import compare, durable, report
from pipelines.config import AblationConfig
from pipelines.errors import UserError
from pipelines.executors.cell import Cell, Outcome
from pipelines.registration import digest, registration
from pipelines.results import RunFolder
from pipelines.stored import RESULTS, SEARCH, TOGETHER, open_ablation, read_json


@dataclass(frozen=True)
class Ended:
    """An ablation and how each of its runs ended."""

    config: AblationConfig
    outcomes: Mapping[Cell, Outcome]
    folder: Path
    prefix: str = ""  # before the names of its cells, where another ablation has them too


def report_command(folders: Sequence[str], out: str | None) -> None:
    """`attnlab report`: compute everything again from stored statistics and render it; no model is needed.

    Raises:
        UserError: no ablation folder, nothing finished in it, or ablations that have no baseline in common.
    """
    ended = [stored_in(Path(folder)) for folder in folders]
    if len(ended) > 1 and out is None:
        raise UserError(
            "report", "several ablations need a folder of their own", accepted="name it with --out"
        )
    target = Path(out or folders[0])
    results = results_of(told_apart(ended), target)
    write(results, target)
    if len(ended) > 1:
        durable.write_json(target / TOGETHER, [os.path.relpath(folder, target) for folder in folders])
    report.print_table(results, Console(highlight=False), target)
    Console(stderr=True, highlight=False).print(f"report: {target / 'report.html'}", soft_wrap=True)


def stored_in(folder: Path) -> Ended:
    """The ablation of a folder, as far as it has come.

    Raises:
        UserError: it is none, or no run of it has finished.
    """
    stored = open_ablation(folder)
    ended = Ended(stored.config, stored.outcomes(), folder)
    if not any(outcome.status == "finished" for outcome in ended.outcomes.values()):
        raise UserError(str(folder), "no run has finished yet", accepted="see attnlab status")
    return ended


def reported_in(folder: Path) -> list[Ended]:
    """The ablations that a folder's report is about: its own, or those that were reported together."""
    several = read_json(folder / TOGETHER)
    if several is None:
        return [stored_in(folder)]
    return told_apart([stored_in(Path(os.path.normpath(folder / path))) for path in several])


def told_apart(ended: Sequence[Ended]) -> list[Ended]:
    """The ablations, those that share the name of a cell with another told apart by their folders."""
    baselines = {one.config.baseline for one in ended}
    if len(baselines) > 1:
        raise UserError("report", "the ablations have different baselines", ", ".join(sorted(baselines)))
    names = [name for one in ended for name in one.config.cells]
    shared = {name for name in names if names.count(name) > 1}
    return [
        replace(one, prefix=f"{one.folder.resolve().name}: " if shared & set(one.config.cells) else "")
        for one in ended
    ]


def results_of(ended: Sequence[Ended], folder: Path) -> dict[str, Any]:
    """What results.json says, by the stored statistics of the finished runs; links start at `folder`."""
    results = compare.combine([_part(one) for one in ended], _registrations(ended), folder)
    for one in ended:
        record = read_json(one.folder / SEARCH) if one.config.search else {"cells": {}}
        for cell, arms in record["cells"].items():
            for arm, found in arms.items():
                about = results["arms"][one.prefix + cell][arm]
                about["search"] = {"seeds": record["seeds"], **found}
    return results


def write(results: Mapping[str, Any], folder: Path) -> None:
    """Write results.json and the reports into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    durable.write_json(folder / RESULTS, results)
    report.write(results, folder)


def _part(ended: Ended) -> compare.Part:
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
        "reason": outcome.reason,
    }


def _registrations(ended: Sequence[Ended]) -> dict[str, Any]:
    """The registration of one ablation, or those of several as one."""
    each = {one.folder.resolve().name: registration(one.config, one.folder) for one in ended}
    if len(ended) == 1:
        return next(iter(each.values()))
    before = sum((Counter(known.get("finished_before")) for known in each.values()), Counter())
    return {
        "hash": digest({name: known["hash"] for name, known in each.items()}),
        "time": ", ".join(sorted({known["time"] for known in each.values()})),
        "finished_before": dict(before),
        "changed_afterwards": [
            f"{field} of {name}" for name, known in each.items() for field in known["changed_afterwards"]
        ],
        "ablations": each,
    }
