"""Attention diagnostics after training, by site and head: the last line of each run's diagnostics.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.report import format as fmt
from pipelines.report.data import ReportData, RunLink
from pipelines.storage.run_folder import RunFolder

Rows = tuple[tuple[float | None, ...], ...]  # a row for each site, a number for each of its heads
Sites = Sequence[Mapping[str, Any]]  # as `custom_attention.SiteDiagnostics.to_dict` writes them

ENTROPY, SINK, OWN = "entropy", "weight on the first token", "what the arm learned"
GATE = "mean gate minus 1"
COMMON = {ENTROPY: "entropy", SINK: "sink_mass"}  # quantities of every arm, and their keys in the file
STACKS = {"encoder": "enc", "decoder": "dec"}


@dataclass(frozen=True)
class AttentionStats:
    """Attention diagnostics of one arm in a cell, for every seed that recorded them.

    Attributes:
        sites: short names, `3` or `dec 3` or `cross 3`.
        by_seed: quantity -> rows, for each seed. The quantities are those of every arm (`ENTROPY`, `SINK`),
            then those of the arm's own variants (`own`).
    """

    sites: tuple[str, ...]
    by_seed: Mapping[int, Mapping[str, Rows]]

    @property
    def own(self) -> list[str]:
        """Quantities of this arm alone: the mean of its gate, its learned numbers; 0 in stock attention."""
        names = dict.fromkeys(name for quantities in self.by_seed.values() for name in quantities)
        return [name for name in names if name not in (ENTROPY, SINK)]

    def mean(self, quantity: str) -> Rows:
        """Return the mean over seeds."""
        found = [quantities[quantity] for quantities in self.by_seed.values() if quantity in quantities]
        return _combine(found, fmt.mean)

    def reach(self, quantity: str) -> tuple[float, float] | None:
        """Return the least and the most of any head, of means over seeds."""
        known = fmt.finite(value for row in self.mean(quantity) for value in row)
        return (min(known), max(known)) if known else None

    def minus(self, other: AttentionStats, quantity: str) -> Rows:
        """Return the mean difference over the seeds that both have."""
        seeds = sorted(self.by_seed.keys() & other.by_seed.keys())
        pairs = [(self.by_seed[seed][quantity], other.by_seed[seed][quantity]) for seed in seeds]
        return _combine([_combine(pair, _difference) for pair in pairs], fmt.mean)


def of_cell(facts: ReportData, cell: str) -> dict[str, AttentionStats]:
    """Return the arms of a cell whose runs recorded diagnostics; runs of older versions did not."""
    found = {arm: _of_runs(facts.runs_of(cell, arm)) for arm in facts.arms}
    return {arm: stats for arm, stats in found.items() if stats.by_seed}


def overall(rows: Rows) -> float | None:
    """Return the mean over sites and heads."""
    return fmt.mean([value for row in rows for value in row])


def _of_runs(runs: Sequence[RunLink]) -> AttentionStats:
    ends = {run.seed: RunFolder(run.folder).diagnostics() for run in runs}
    ends = {seed: sites for seed, sites in ends.items() if sites}
    names = _names(next(iter(ends.values()), []))
    # A run whose sites differ from those of the first has another model: it cannot be averaged with it.
    same = {seed: _quantities(sites) for seed, sites in ends.items() if _names(sites) == names}
    return AttentionStats(names, same)


def _names(sites: Sites) -> tuple[str, ...]:
    """Return the name of each site: its layer, with the stack where there are several kinds."""
    kinds = {(site["stack"], site["kind"]) for site in sites}
    if len(kinds) < 2:
        return tuple(str(site["layer"]) for site in sites)
    of_self = {site["stack"]: STACKS.get(site["stack"], site["stack"]) for site in sites}
    return tuple(
        f"{of_self[site['stack']] if site['kind'] == 'self' else site['kind']} {site['layer']}"
        for site in sites
    )


def _quantities(sites: Sites) -> dict[str, Rows]:
    """Return every quantity of one run."""
    found = {name: tuple(tuple(site[key]) for site in sites) for name, key in COMMON.items()}
    if any(site["gate"] for site in sites):
        means = [(site["gate"] or {}).get("mean", ()) for site in sites]
        found[GATE] = tuple(tuple(mean - 1 for mean in heads) for heads in means)
    for name in dict.fromkeys(name for site in sites for name in site["learned"]):
        found[name.replace(".", ": ", 1)] = tuple(tuple(site["learned"].get(name, ())) for site in sites)
    return found


def _combine(tables: Sequence[Rows], by: Callable[[Sequence[float | None]], float | None]) -> Rows:
    """Combine tables of one shape, number by number."""
    return tuple(tuple(by(values) for values in zip(*rows)) for rows in zip(*tables))


def _difference(pair: Sequence[float | None]) -> float | None:
    arm, baseline = pair
    return arm - baseline if fmt.known(arm) and fmt.known(baseline) else None
