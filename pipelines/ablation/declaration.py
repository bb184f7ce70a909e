"""What an ablation declares before its first run, and what of it has changed since."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product
from typing import Any

from pipelines.ablation.cell import Cell
from pipelines.ablation.trials import searched_names
from pipelines.config.load import AblationConfig
from pipelines.runs import identity
from pipelines.storage.run_folder import RunFolder
from pipelines.storage.sealed import digest

RUNS = ("settings", "metrics", "sources")  # declared since 0.2: 0.1 declared hypotheses and names only
GROWING = ("arms", "cells")
MOST_NAMED = 3  # modules
Arm = tuple[str, str]  # cell, arm
Json = Mapping[str, Any]


@dataclass(frozen=True)
class Deviation:
    """Something that is not what was declared, and the rows that it bears on."""

    name: str
    before: object
    now: object
    cell: str | None = None  # None: the whole family
    arm: str | None = None  # None: every arm of the cell
    metric: str | None = None  # None: every metric

    def __str__(self) -> str:
        place = " / ".join(part for part in (self.cell, self.arm) if part is not None)
        return f"{self.name}{f' of {place}' if place else ''}: {_shown(self.before)} -> {_shown(self.now)}"

    def bears_on(self, row: Json) -> bool:
        """Return whether a comparison of results.json rests on it."""
        if self.metric not in (None, row["metric"]) or self.arm not in (None, row["arm"], row["baseline"]):
            return False
        return bool(row["primary"]) if self.cell is None else self.cell == row["cell"]


def declare(config: AblationConfig) -> dict[str, Any]:
    """Return what must not change once results are seen.

    Files are declared by their content; the seed is not among the settings of an arm, nor is what a search
    chooses.
    """
    described = {
        (cell, arm): identity.describe(config.run_config(cell, arm, config.seeds[0]))
        for cell, arm in product(config.cells, config.arms)
    }
    return {
        **_hypotheses(config),
        "settings": {
            cell: {arm: _settings(described[cell, arm]["config"], config, arm) for arm in config.arms}
            for cell in config.cells
        },
        "metrics": {cell: _signatures(config, cell) for cell in config.cells},
        "sources": {name: text for one in described.values() for name, text in one["sources"].items()},
    }


def deviations(declared: Json, config: AblationConfig, runs: Iterable[Cell]) -> list[Deviation]:
    """Return what differs from a declaration: in the ablation as it is now, and in what its runs have read.

    Args:
        runs: of the grid and of the search; those that have ended say what was run.
    """
    ended = list(_ended(runs))
    return [
        *_of_hypotheses(declared, _hypotheses(config)),
        *_of_growth(config),
        *_of_settings(declared.get("settings", {}), config, ended),
        *_of_metrics(declared.get("metrics", {}), ended),
        *_of_sources(declared.get("sources", {}), ended),
    ]


# ---- what is declared
def _hypotheses(config: AblationConfig) -> dict[str, Any]:
    return {
        "primary": dict(config.primary),
        "margin": dict(config.margin),
        "seeds": list(config.declared_seeds),
        "arms": sorted(config.arms),
        "baseline": config.baseline,
        "cells": sorted(config.cells),
        **({"search": config.search.model_dump(mode="json")} if config.search else {}),
        **({"assay": config.assay} if config.assay else {}),
        **({"by": config.by} if config.by else {}),
        **({"collapse": dict(config.collapse)} if config.collapse else {}),
        "stopping_rule": "every run of the grid, once"
        if config.stopping is None
        else f"{config.stopping.rule}, at most {config.stopping.most_seeds} seeds",
    }


def _settings(config: Json, ablation: AblationConfig, arm: str) -> dict[str, Any]:
    """Return the settings of a run that all runs of its arm share, whatever a search chooses."""
    searched = searched_names(ablation, arm)
    shared = {name: value for name, value in config.items() if name not in {"seed", *searched}}
    if any("." in name for name in searched):
        shared["attention"] = [_without(spec, searched) for spec in shared["attention"]]
    return shared | {"seed_offset": ablation.arms[arm].seed_offset}


def _without(spec: Any, searched: Collection[str]) -> Any:
    """Return a variant of a run, a name or {name: options}, without the options that a search chooses."""
    [(name, options)] = spec.items() if isinstance(spec, Mapping) else [(spec, {})]
    kept = {key: value for key, value in options.items() if f"{name}.{key}" not in searched}
    return {name: kept} if kept else name


def _signatures(config: AblationConfig, cell: str) -> dict[str, str]:
    """Return the signature of every metric of a cell; what only the data decides is left open."""
    from pipelines.tasks.load import load_task

    metrics = load_task(config.cells[cell]).metrics
    return {name: _without_data(metric.signature) for name, metric in metrics.items()}


def _without_data(signature: str) -> str:
    """Return a signature without the number of labels, which a run learns from its data."""
    return re.sub(r"\|labels:\d+", "", signature)


# ---- what has changed
@dataclass(frozen=True)
class _Ended:
    """A run that has ended: what it was, and how it was scored."""

    cell: str
    arm: str
    identity: Json
    metrics: Mapping[str, Json]


def _ended(runs: Iterable[Cell]) -> Iterator[_Ended]:
    for run in runs:
        folder = RunFolder(run.folder)
        manifest, described = folder.manifest(), folder.identity()
        if manifest is not None and described is not None:
            yield _Ended(run.cell, run.arm_in_grid, described, manifest["metrics"])


def _of_hypotheses(declared: Json, now: Json) -> Iterator[Deviation]:
    """Yield the changes of a family; one that only grew is changed in its new rows."""
    before = {name: value for name, value in declared.items() if name not in RUNS}
    for name, old, new in _differences(before, now):
        added = set(now[name]) - set(before.get(name, ())) if name in GROWING else set()
        if added and set(before.get(name, ())) <= set(now[name]):
            own = [(None, one) if name == "arms" else (one, None) for one in sorted(added)]
            yield from (Deviation(name, old, new, cell, arm) for cell, arm in own)
        else:
            is_margin = name.startswith("margin.")
            yield Deviation(name, old, new, metric=name.partition(".")[2] if is_margin else None)


def _of_growth(config: AblationConfig) -> Iterator[Deviation]:
    """Yield that a stopping rule did not add the next numbers: a seed was left out, or another one taken."""
    first, most = config.declared_seeds, config.stopping.most_seeds if config.stopping else 0
    added = list(config.seeds[len(first) :])
    by_rule = [max(first) + place for place in range(1, len(added) + 1)]
    if added != by_rule:
        yield Deviation("added seeds", by_rule, added)
    if most and len(config.seeds) > most:
        yield Deviation("number of seeds", f"at most {most}", len(config.seeds))


def _of_settings(declared: Json, config: AblationConfig, ended: Sequence[_Ended]) -> Iterator[Deviation]:
    found: list[Deviation] = []
    for cell, arm in product(config.cells, config.arms):
        before = declared.get(cell, {}).get(arm)
        if before is None:  # a cell or an arm that is new, or a registration of 0.1
            continue
        run = next((one for one in ended if (one.cell, one.arm) == (cell, arm)), None)
        if run is not None:
            now = _settings(run.identity["config"], config, arm)
            found += [Deviation(name, old, new, cell, arm) for name, old, new in _differences(before, now)]
            continue
        stated = _settings(config.run_config(cell, arm, config.seeds[0]).to_dict(), config, arm)
        declared_names = {name: stated.get(name) for name in before}
        found += [
            Deviation(name, old, new, cell, arm)
            for name, old, new in _differences(before, declared_names)
            if name not in identity.NO_NUMBER and not str(old).startswith(identity.CONTENT)
        ]
    yield from _by_cell(found, config.arms)


def _of_metrics(declared: Json, ended: Sequence[_Ended]) -> Iterator[Deviation]:
    found = [
        Deviation(f"signature of {name}", before, now, cell=run.cell, metric=name)
        for run in ended
        for name, before in declared.get(run.cell, {}).items()
        if name in run.metrics and (now := _without_data(run.metrics[name]["signature"])) != before
    ]
    yield from dict.fromkeys(found)


def _of_sources(declared: Json, ended: Sequence[_Ended]) -> Iterator[Deviation]:
    """Yield the source files that are not as declared, those of an arm in one change."""
    found: dict[Deviation, None] = {}
    for run in ended if declared else ():
        now = run.identity["sources"]
        names = sorted(name for name in now if declared.get(name) != now[name])
        if names:
            more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
            hashes = [digest({name: one.get(name) for name in names})[:12] for one in (declared, now)]
            what = f"source of {', '.join(names[:MOST_NAMED])}{more}"
            found[Deviation(what, hashes[0], hashes[1], run.cell, run.arm)] = None
    yield from _by_cell(found, {run.arm for run in ended})


def _by_cell(found: Iterable[Deviation], arms: Iterable[str]) -> Iterator[Deviation]:
    """Yield changes, one for the whole cell where every arm has the same."""
    every = set(arms)

    def same(change: Deviation) -> tuple[str, ...]:
        return str(change.cell), change.name, _shown(change.before), _shown(change.now)

    for _, group in groupby(sorted(found, key=same), same):
        alike = list(group)
        whole = {one.arm for one in alike} >= every
        yield from [replace(alike[0], arm=None)] if whole else alike


def _differences(before: Json, now: Json) -> Iterator[tuple[str, object, object]]:
    """Yield (name, before, now) of every entry that differs, nested ones as "margin.f1"."""
    old, new = dict(identity.flatten(before)), dict(identity.flatten(now))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield name, old.get(name), new.get(name)


def _shown(value: object) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
