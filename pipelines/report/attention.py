"""What attention did in the end, by site and head: the last line of each run's diagnostics.jsonl."""

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
COMMON = {ENTROPY: "entropy", SINK: "sink_mass"}  # what every arm has, and where it stands
STACKS = {"encoder": "enc", "decoder": "dec"}


@dataclass(frozen=True)
class AttentionStats:
    """What the attention of one arm did in a cell, for every seed that kept diagnostics.

    Attributes:
        sites: short names, `3` or `dec 3` or `cross 3`.
        by_seed: quantity -> rows, for each seed. The quantities are those of every arm (`ENTROPY`, `SINK`),
            then what the arm's own variants say of themselves (`own`).
    """

    sites: tuple[str, ...]
    by_seed: Mapping[int, Mapping[str, Rows]]

    @property
    def own(self) -> list[str]:
        """What only this arm has: the mean of its gate, its learned numbers. All are 0 in stock attention."""
        names = dict.fromkeys(name for seen in self.by_seed.values() for name in seen)
        return [name for name in names if name not in (ENTROPY, SINK)]

    def mean(self, quantity: str) -> Rows:
        """Mean over seeds."""
        return _combine([seen[quantity] for seen in self.by_seed.values() if quantity in seen], fmt.mean)

    def reach(self, quantity: str) -> tuple[float, float] | None:
        """Least and most of any head, of means over seeds."""
        known = fmt.finite(value for row in self.mean(quantity) for value in row)
        return (min(known), max(known)) if known else None

    def minus(self, other: AttentionStats, quantity: str) -> Rows:
        """Mean difference over the seeds that both have."""
        seeds = sorted(self.by_seed.keys() & other.by_seed.keys())
        pairs = [(self.by_seed[seed][quantity], other.by_seed[seed][quantity]) for seed in seeds]
        return _combine([_combine(pair, _difference) for pair in pairs], fmt.mean)


def of_cell(facts: ReportData, cell: str) -> dict[str, AttentionStats]:
    """Return the arms of a cell whose runs recorded diagnostics; runs of older versions did not."""
    found = {arm: _of_runs(facts.runs_of(cell, arm)) for arm in facts.arms}
    return {arm: seen for arm, seen in found.items() if seen.by_seed}


def overall(rows: Rows) -> float | None:
    """Mean over sites and heads."""
    return fmt.mean([value for row in rows for value in row])


def _of_runs(runs: Sequence[RunLink]) -> AttentionStats:
    ends = {run.seed: RunFolder(run.folder).diagnostics() for run in runs}
    ends = {seed: sites for seed, sites in ends.items() if sites}
    names = _names(next(iter(ends.values()), []))
    same = {seed: _quantities(sites) for seed, sites in ends.items() if _names(sites) == names}
    return AttentionStats(names, same)


def _names(sites: Sites) -> tuple[str, ...]:
    """The layer, and the stack where there are two."""
    kinds = {(site["stack"], site["kind"]) for site in sites}
    if len(kinds) < 2:
        return tuple(str(site["layer"]) for site in sites)
    return tuple(
        f"{'cross' if site['kind'] == 'cross' else STACKS.get(site['stack'], site['stack'])} {site['layer']}"
        for site in sites
    )


def _quantities(sites: Sites) -> dict[str, Rows]:
    """Every quantity of one run."""
    found = {name: tuple(tuple(site[key]) for site in sites) for name, key in COMMON.items()}
    if any(site["gate"] for site in sites):
        means = [(site["gate"] or {}).get("mean", ()) for site in sites]
        found[GATE] = tuple(tuple(mean - 1 for mean in heads) for heads in means)
    for name in dict.fromkeys(name for site in sites for name in site["learned"]):
        found[name.replace(".", ": ", 1)] = tuple(tuple(site["learned"].get(name, ())) for site in sites)
    return found


def _combine(tables: Sequence[Rows], by: Callable[[Sequence[float | None]], float | None]) -> Rows:
    """Tables of one shape, number by number."""
    return tuple(tuple(by(values) for values in zip(*rows)) for rows in zip(*tables))


def _difference(pair: Sequence[float | None]) -> float | None:
    ours, stock = pair
    return ours - stock if fmt.known(ours) and fmt.known(stock) else None
