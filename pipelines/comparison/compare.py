"""From run folders to results.json: every arm against the baseline, in every cell, by every metric."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.comparison import significance
from pipelines.comparison import verdict as comparison_verdict
from pipelines.comparison.pairing import share_identical
from pipelines.comparison.scored_cell import Key, ScoredCell
from pipelines.comparison.scored_run import ScoredRun
from pipelines.comparison.significance import Bootstrap, TwoWay
from pipelines.comparison.verdict import Verdict
from pipelines.metrics.base import Metric, comparable

SCHEMA_VERSION = 1


def build(
    ablation: Mapping[str, Any],
    runs: Mapping[Key, Path],
    failures: Sequence[Mapping[str, Any]] = (),
    registration: Mapping[str, Any] | None = None,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Everything a report needs beside the run folders, as `config/schema/results.schema.json` says.

    Args:
        ablation: `AblationConfig.to_dict()`: cells, arms, baseline, seeds, primary, margin.
        runs: folders of the finished runs.
        failures: runs that diverged or failed: `{cell, arm, seed, run, status, step, reason}`.
        registration: what was declared before the first run, passed through.
        folder: the ablation's folder; run folders are written relative to it.

    Raises:
        UserError: runs that cannot be paired (see `pairing.check_pair`).
    """
    return combine([Part(ablation, runs, failures)], registration, folder)


@dataclass(frozen=True)
class Part:
    """One ablation among several that are reported together; no two of them share the name of a cell."""

    ablation: Mapping[str, Any]
    runs: Mapping[Key, Path]
    failures: Sequence[Mapping[str, Any]] = ()


def combine(
    parts: Sequence[Part], registration: Mapping[str, Any] | None = None, folder: Path | None = None
) -> dict[str, Any]:
    """`build` for several ablations at once: all their primary comparisons are one Holm family."""
    comparisons: list[Comparison] = []
    facts: dict[str, Any] = {}
    environments = []
    for part in parts:
        for name in part.ablation["cells"]:
            cell = ScoredCell.load(name, part.ablation, part.runs)
            comparisons += _comparisons(cell)
            facts[name] = {arm: cell.facts(arm) for arm in part.ablation["arms"]}
            environments += [run.manifest["environment"] for run in cell.runs.values()]
    _adjust(comparisons)
    failures = [dict(failure) for part in parts for failure in part.failures]
    ablations = [part.ablation for part in parts]
    stated = json.dumps(ablations if len(parts) > 1 else ablations[0], sort_keys=True)
    content = {
        "schema_version": SCHEMA_VERSION,
        "hash": hashlib.sha256(stated.encode()).hexdigest(),
        "registration": registration,
        "environment": _shared(environments),
        "comparisons": [comparison.row(failures, folder) for comparison in comparisons],
        "arms": facts,
        "publish_text": {
            name: bool(cell.get("data", {}).get("publish_text"))
            for ablation in ablations
            for name, cell in ablation["cells"].items()
        },
        "failures": failures,
    }
    return _jsonable(content)


@dataclass
class Comparison:
    """One arm against the baseline by one metric in one cell."""

    cell: ScoredCell
    arm: str
    name: str
    primary: bool
    notes: Sequence[str] = ()  # what its pairs do not share
    result: TwoWay | None = None
    check: Bootstrap | None = None
    p_holm: float | None = None

    def row(self, failures: Sequence[Mapping[str, Any]], folder: Path | None) -> dict[str, Any]:
        """The object in results.json."""
        cell, result = self.cell, self.result
        sides = {"baseline": cell.baseline, "arm": self.arm}
        verdict = self._verdict(failures)
        aside = ", within the margin" if verdict.word in ("better", "worse") and verdict.within_margin else ""
        metric = cell.metric(self.name)
        pairs = cell.pairs(self.arm)
        return {
            "cell": cell.name,
            "task": cell.task,
            "model": cell.model,
            "split": cell.split,
            "metric": self.name,
            "signature": metric.signature if metric else None,
            "higher_is_better": metric.higher_is_better if metric else None,
            "scale": metric.scale if metric else None,
            "primary": self.primary,
            "baseline": cell.baseline,
            "arm": self.arm,
            "n_examples": result.num_examples if result else None,
            "n_clusters": result.num_clusters if result else None,
            "n_differing": result.num_differing if result else None,
            "identical_predictions": share_identical(list(pairs.values())),
            "seeds": list(cell.seeds),
            **{
                f"{side}_scores": [cell.score(arm, seed, self.name) for seed in cell.seeds]
                for side, arm in sides.items()
            },
            **self._numbers(metric),
            "p_holm": self.p_holm,
            "margin": self.margin,
            "verdict": verdict.word + aside,
            "within_margin": verdict.within_margin,
            "reason": verdict.reason,
            "flags": self._flags(),
            "runs": {
                side: [_relative(cell.runs.get((arm, seed)), folder) for seed in cell.seeds]
                for side, arm in sides.items()
            },
        }

    @property
    def margin(self) -> float | None:
        return self.cell.ablation["margin"].get(self.name)

    def _numbers(self, metric: Metric | None) -> dict[str, Any]:
        names = ("difference", "se", "df", "ci95", "ci90", "p", "mde80", "variance")
        numbers: dict[str, Any] = dict.fromkeys(names)
        numbers["seed_differences"] = [None] * len(self.cell.seeds)
        if self.result is not None:
            numbers |= {name: asdict(self.result)[name] for name in names}
            by_seed = dict(zip(self.cell.pairs(self.arm), self.result.seed_differences))
            numbers["seed_differences"] = [by_seed.get(seed) for seed in self.cell.seeds]
            if metric is not None and metric.scale == "log":
                numbers["ratio"], numbers["ratio_ci95"] = _ratio(self.result, metric)
        if self.check is not None:
            numbers["bootstrap"] = asdict(self.check)
        return numbers

    def _verdict(self, failures: Sequence[Mapping[str, Any]]) -> Verdict:
        """An exploratory row is worded by its raw p; only the primary family is adjusted."""
        cell, result = self.cell, self.result
        ended = {(f.get("cell"), f.get("arm"), f.get("seed")): f.get("status") for f in failures}
        lost = [
            (f"{arm} seed {seed}", ended.get((cell.name, arm, seed)))
            for arm in (cell.baseline, self.arm)
            for seed in cell.seeds
            if (arm, seed) not in cell.runs
        ]
        raw = result.p if result else math.nan
        return comparison_verdict.verdict(
            result,
            self.p_holm if self.p_holm is not None else raw,
            self.margin,
            num_planned=len(cell.seeds),
            diverged=[label for label, status in lost if status == "diverged"],
            missing=[label for label, status in lost if status != "diverged"],
        )

    def _flags(self) -> list[str]:
        if self.result is None:
            return list(self.notes)
        runs = [run for pair in self.cell.pairs(self.arm).values() for run in pair]
        blind = ["every score is 0: neither arm has learned to predict"] * (
            not any(r.score(self.name) for r in runs)
        )
        seeds = list(self.cell.pairs(self.arm))
        return [*self.notes, *blind, *comparison_verdict.flags(self.result, self.check, seeds)]

    @property
    def claims(self) -> bool:
        """Whether its p may count as evidence: every planned pair is there, and there are enough."""
        complete = len(self.cell.pairs(self.arm)) == len(self.cell.seeds) >= significance.MIN_SEEDS
        return complete and self.result is not None and self.result.problem is None


def _comparisons(cell: ScoredCell) -> Iterator[Comparison]:
    """Primary metric first, then the others; arms in the order of the ablation."""
    measured = list(next(iter(cell.runs.values())).metrics) if cell.runs else []
    names = sorted({cell.primary, *measured} - {None}, key=lambda name: (name != cell.primary, name))
    arms = [arm for arm in cell.ablation["arms"] if arm != cell.baseline]
    notes = {arm: cell.notes(arm) for arm in arms}
    resampled = cell.resampled() if cell.runs else {}
    for name in names:
        for arm in arms:
            comparison = Comparison(cell, arm, name, name == cell.primary, notes[arm])
            if pairs := cell.pairs(arm):
                comparison.result = cell.two_way(name, pairs)
                comparison.check = _check(comparison.result, cell.metric(name), pairs, resampled)
            yield comparison


def _check(
    result: TwoWay,
    metric: Metric,
    pairs: Mapping[int, tuple[ScoredRun, ScoredRun]],
    resampled: Mapping[tuple[Path, str], np.ndarray],
) -> Bootstrap | None:
    """The bootstrap beside a test; none where nothing was tested."""
    if result.identical or result.problem:
        return None
    drawn = [
        np.stack([resampled[pair[side].folder, metric.name] for pair in pairs.values()], axis=1)
        for side in (0, 1)
    ]
    return significance.bootstrap(*drawn, comparable(metric))


def _ratio(result: TwoWay, metric: Metric) -> tuple[float, list[float]]:
    """The arm's score over the baseline's, and its 95 % interval."""
    sign = 1 if metric.higher_is_better else -1
    ends = [math.exp(sign * end / 100) for end in (result.difference, *result.ci95)]
    return ends[0], sorted(ends[1:])


def _adjust(comparisons: Sequence[Comparison]) -> None:
    """Holm over the whole declared family; a comparison that may claim nothing keeps its place with p = 1."""
    family = [comparison for comparison in comparisons if comparison.primary]
    raw = [comparison.result.p if comparison.claims else math.nan for comparison in family]
    for comparison, adjusted in zip(family, significance.holm(raw)):
        comparison.p_holm = adjusted if comparison.claims else None


def _shared(environments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all runs have in common; a field that differs lists its values."""
    shared: dict[str, Any] = {}
    for name in dict.fromkeys(name for environment in environments for name in environment):
        values = [environment.get(name) for environment in environments]
        distinct = [value for place, value in enumerate(values) if value not in values[:place]]
        shared[name] = distinct[0] if len(distinct) == 1 else distinct
    return shared


def _relative(run: ScoredRun | None, folder: Path | None) -> str | None:
    if run is None:
        return None
    return Path(os.path.relpath(run.folder, folder) if folder else run.folder).as_posix()


def _jsonable(value: Any) -> Any:
    """Plain JSON: tuples as lists, numbers that are not finite as null."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
