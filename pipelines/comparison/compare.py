"""The content of results.json: every arm against the baseline, in every cell, by every metric."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.comparison import assay, behrens_fisher, collapse, significance
from pipelines.comparison import margin as margins
from pipelines.comparison import verdict as comparison_verdict
from pipelines.comparison.collapse import Collapse, Unseen
from pipelines.comparison.doubts import Doubts, doubts
from pipelines.comparison.pairing import share_identical
from pipelines.comparison.results import (
    RULES,
    SCHEMA_VERSION,
    ArmSummary,
    ComparisonResult,
    Failure,
    Registration,
    Results,
    RunPaths,
    SourceFile,
    from_json,
    to_json,
)
from pipelines.comparison.scored_cell import Key, ScoredCell
from pipelines.comparison.scored_run import ScoredRun
from pipelines.comparison.shrinkage import shrunken
from pipelines.comparison.significance import LEVEL, Bootstrap, TwoWay
from pipelines.comparison.summary import Estimate, summaries
from pipelines.comparison.verdict import Verdict
from pipelines.comparison.words import CLAIMS, DIFFERENT
from pipelines.metrics.base import Metric


def build(
    ablation: Mapping[str, Any],
    runs: Mapping[Key, Path],
    failures: Sequence[Mapping[str, object]] = (),
    registration: Mapping[str, object] | None = None,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Return the content of results.json for one ablation, as `config/schema/results.schema.json` says.

    Args:
        ablation: `AblationConfig.to_dict()`: cells, arms, baseline, seeds, primary, margin.
        runs: folders of the finished runs.
        failures: runs that diverged, failed or never ran, each with the fields of `Failure`.
        registration: what was declared before the first run, with the fields of `Registration`.
        folder: the ablation's folder; run folders are written relative to it.

    Raises:
        UserError: two runs cannot be paired (see `pairing.check_pair`).
    """
    return combine([Part(ablation, runs, failures)], registration, folder)


@dataclass(frozen=True)
class Part:
    """One ablation of those reported together. A name of a cell may not occur in two of them."""

    ablation: Mapping[str, Any]
    runs: Mapping[Key, Path]
    failures: Sequence[Mapping[str, object]] = ()


def combine(
    parts: Sequence[Part],
    registration: Mapping[str, object] | None = None,
    folder: Path | None = None,
    sources: Mapping[str, Sequence[Mapping[str, object]]] | None = None,
) -> dict[str, Any]:
    """Return what `build` does for several ablations: their primary comparisons are one Holm family.

    Args:
        sources: the files of each side, of a comparison after the fact, with the fields of `SourceFile`.
    """
    comparisons: list[Comparison] = []
    arms: dict[str, dict[str, ArmSummary]] = {}
    environments: list[Mapping[str, object]] = []
    for part in parts:
        for name in part.ablation["cells"]:
            cell = ScoredCell.load(name, part.ablation, part.runs)
            comparisons += _comparisons(cell)
            arms[name] = {arm: cell.summary(arm) for arm in part.ablation["arms"]}
            environments += [known for run in cell.runs.values() if (known := run.manifest["environment"])]
    _adjust(comparisons)
    failures = [from_json(Failure, entry, "failures") for part in parts for entry in part.failures]
    ablations = [part.ablation for part in parts]
    stated = json.dumps(ablations if len(parts) > 1 else ablations[0], sort_keys=True)
    results = Results(
        schema_version=SCHEMA_VERSION,
        rules=RULES,
        hash=hashlib.sha256(stated.encode()).hexdigest(),
        registration=None
        if registration is None
        else from_json(
            Registration, registration, "registration.json", "restore the file that attnlab ablate wrote"
        ),
        environment=_shared(environments),
        comparisons=tuple(comparison.finish(failures, folder) for comparison in comparisons),
        summaries=summaries([found for one in comparisons if (found := _estimate(one))], _grouping(parts)),
        arms=arms,
        failures=tuple(failures),
        sources=None
        if sources is None
        else {
            arm: tuple(from_json(SourceFile, file, "comparison.json") for file in files)
            for arm, files in sources.items()
        },
        publish_text={
            name: bool(cell.get("data", {}).get("publish_text"))
            for ablation in ablations
            for name, cell in ablation["cells"].items()
        },
    )
    return to_json(results)


def _grouping(parts: Sequence[Part]) -> str | None:
    """Return what the cells are grouped by: what all ablations of a report declare."""
    [first, *others] = {part.ablation.get("by") for part in parts}
    return None if others else first


@dataclass
class Comparison:
    """One arm against the baseline by one metric in one cell, while it is computed."""

    cell: ScoredCell
    arm: str
    name: str  # of the metric
    primary: bool
    notes: Sequence[str] = ()  # what its pairs do not share
    result: TwoWay | None = None
    check: Bootstrap | None = None
    p_holm: float | None = None
    p_margin: margins.Sides | None = None  # adjusted where primary
    insensitive: str = ""  # why harm would not have been seen

    def finish(self, failures: Sequence[Failure], folder: Path | None) -> ComparisonResult:
        """Return the comparison as results.json holds it; run folders are relative to `folder`."""
        cell, result, metric = self.cell, self.result, self.cell.metric(self.name)
        verdict = self._verdict(failures)
        is_different = verdict.word in DIFFERENT
        aside = ", within the margin" if is_different and verdict.within_margin else ""
        ratio, ratio_ci95 = _ratio(result, metric) if result and metric else (None, None)
        return ComparisonResult(
            cell=cell.name,
            task=cell.task,
            model=cell.model,
            split=cell.split,
            metric=self.name,
            signature=metric.signature if metric else None,
            higher_is_better=metric.higher_is_better if metric else None,
            scale=metric.scale if metric else None,
            primary=self.primary,
            baseline=cell.baseline,
            arm=self.arm,
            n_examples=result.num_examples if result else None,
            n_clusters=result.num_clusters if result else None,
            n_differing=result.num_differing if result else None,
            identical_predictions=share_identical(list(cell.pairs(self.arm).values())),
            seeds=tuple(cell.seeds),
            baseline_scores=self._scores(cell.baseline),
            arm_scores=self._scores(self.arm),
            difference=result.difference if result else None,
            se=result.se if result else None,
            df=result.df if result else None,
            ci95=result.ci95 if result else None,
            ci90=result.ci90 if result else None,
            p=result.p if result else None,
            mde80=result.mde80 if result else None,
            variance=result.variance if result else None,
            seed_differences=self._seed_differences(),
            ratio=ratio,
            ratio_ci95=ratio_ci95,
            bootstrap=self.check,
            p_holm=self.p_holm,
            p_margin=self.p_margin,
            planted=True if self.planted else None,
            shrunken=self._shrunken() if is_different else None,
            collapse=self.collapse,
            unseen=self._unseen(result) if result and self.collapse else None,
            looks=cell.looks(self.name, self.arm) if self.primary else None,
            margin=self.margin,
            verdict=verdict.word + aside,
            within_margin=verdict.within_margin,
            reason=verdict.reason,
            flags=tuple(self._flags(verdict)),
            runs=RunPaths(self._paths(cell.baseline, folder), self._paths(self.arm, folder)),
        )

    @property
    def margin(self) -> float | None:
        return self.cell.ablation["margin"].get(self.name)

    def part(self, comparisons: int) -> float:
        """Return the part of the level of a family that this look may use."""
        return self.cell.part(len(self.cell.seeds), comparisons)

    @property
    def planted(self) -> bool:
        """Whether the arm is the planted harm of an assay, which is looked for and claims nothing."""
        return self.arm == self.cell.ablation.get("assay")

    @property
    def collapse(self) -> Collapse | None:
        """Which seeds of the side that is ahead collapsed; None if none was repeated or nothing tested."""
        untested = self.result is None or self.result.problem is not None or self.result.identical
        if self.result is None or untested or self.cell.least_seeds == 1:
            return None
        side = math.copysign(1, self.result.difference)
        return collapse.collapse([side * one for one in self.result.seed_differences])

    def _unseen(self, result: TwoWay) -> Unseen:
        """Return what falls that no seed has shown would do: as declared, or to what needs no model."""
        ahead = self.arm if result.difference > 0 else self.cell.baseline
        declared = self.cell.ablation.get("collapse", {}).get(self.name)
        fall = declared if declared is not None else self.cell.fall(ahead, self.name)
        return collapse.unseen(abs(result.difference), fall)

    def _shrunken(self) -> float:
        """Return the estimate that allows for the selection of large ones, at the level of its family."""
        result = self.result
        assert result is not None  # it has a verdict
        level = LEVEL if not self.p_holm else LEVEL * result.p / self.p_holm
        dfs = significance.degrees_of_freedom(result.num_seeds, result.num_clusters)
        share = significance.share_of_seeds(result.variance)
        return shrunken(result.difference, result.se, float(behrens_fisher.critical_value(level, share, dfs)))

    def _scores(self, arm: str) -> tuple[float | None, ...]:
        return tuple(self.cell.score(arm, seed, self.name) for seed in self.cell.seeds)

    def _paths(self, arm: str, folder: Path | None) -> tuple[str | None, ...]:
        return tuple(_relative(self.cell.runs.get((arm, seed)), folder) for seed in self.cell.seeds)

    def _seed_differences(self) -> tuple[float | None, ...]:
        differences = self.result.seed_differences if self.result else ()
        by_seed = dict(zip(self.cell.pairs(self.arm), differences))
        return tuple(by_seed.get(seed) for seed in self.cell.seeds)

    def _verdict(self, failures: Sequence[Failure]) -> Verdict:
        """Return the verdict; an exploratory comparison is judged by its raw p, because Holm skips it."""
        cell, result = self.cell, self.result
        ended = {(failure.cell, failure.arm, failure.seed): failure.status for failure in failures}
        lost = [
            (f"{arm} seed {seed}", ended.get((cell.name, arm, seed)))
            for arm in (cell.baseline, self.arm)
            for seed in cell.seeds
            if (arm, seed) not in cell.runs
        ]
        raw = result.p if result else math.nan
        found = self.collapse
        return comparison_verdict.verdict(
            result,
            self.p_holm if self.p_holm is not None else raw,
            self.margin,
            num_planned=len(cell.seeds),
            least_seeds=cell.least_seeds,
            diverged=[label for label, status in lost if status == "diverged"],
            missing=[label for label, status in lost if status != "diverged"],
            p_margin=self.p_margin or (1.0, 1.0),
            doubts=Doubts(equal=self.insensitive)
            if result is None or result.problem is not None or result.identical
            else doubts(
                result,
                found,
                None if found is None else self._unseen(result),
                selected=cell.selected,
                insensitive=self.insensitive,
            ),
        )

    def _flags(self, verdict: Verdict) -> list[str]:
        if self.result is None:
            return list(self.notes)
        runs = [run for pair in self.cell.pairs(self.arm).values() for run in pair]
        found = list(self.notes)
        found += dict.fromkeys(
            note for run in runs if (note := run.manifest["metrics"][self.name].get("note"))
        )
        if not any(run.score(self.name) for run in runs):
            found.append("every score is 0: neither arm has learned to predict")
        if self.cell.selected:
            found.append(self.cell.selected)
        if self.collapse is not None and verdict.word in CLAIMS:
            found.append(self.collapse.sentence)
        seeds = list(self.cell.pairs(self.arm))
        return found + comparison_verdict.flags(self.result, self.check, seeds)

    @property
    def family_p(self) -> float:
        """Its p in the Holm family; NaN where it may claim nothing: a planned pair is missing, or no test."""
        return self.result.p if self.result is not None and self.may_claim else math.nan

    @property
    def may_claim(self) -> bool:
        """Whether its verdict can be a claim: every planned pair is there, and there was a test."""
        complete = len(self.cell.pairs(self.arm)) == len(self.cell.seeds) >= self.cell.least_seeds
        if self.result is None or self.result.problem is not None or not complete:
            return False
        return self.result.identical or self.result.num_clusters >= significance.CLAIMING_CLUSTERS

    @property
    def one_sided(self) -> margins.Sides | None:
        """Its p values of being worse, and better, by the margin; None where it may not claim."""
        if self.margin is None or self.result is None or not self.may_claim:
            return None
        return margins.one_sided(self.result, self.margin)


def _comparisons(cell: ScoredCell) -> list[Comparison]:
    """Return the comparisons of a cell: primary metric first; arms in the order of the ablation."""
    measured = list(next(iter(cell.runs.values())).metrics) if cell.runs else []
    known = {name for name in (cell.primary, *measured) if name is not None}
    names = sorted(known, key=lambda name: (name != cell.primary, name))
    arms = [arm for arm in cell.ablation["arms"] if arm != cell.baseline]
    notes = {arm: cell.notes(arm) for arm in arms}
    resampled = cell.resampled() if cell.runs else {}
    found: list[Comparison] = []
    for name in names:
        for arm in arms:
            comparison = Comparison(cell, arm, name, name == cell.primary, notes[arm])
            comparison.primary &= not comparison.planted
            metric = cell.metric(name)
            if metric is not None and (pairs := cell.pairs(arm)):
                comparison.result = cell.two_way(name, pairs)
                comparison.check = _check(comparison.result, metric, pairs, resampled)
            found.append(comparison)
        planted = next((one for one in found if one.name == name and one.planted), None)
        unseen = assay.unseen(planted.result if planted else None) if cell.ablation.get("assay") else ""
        for one in found:
            if one.name == name:
                one.insensitive = cell.behind(one.arm) or unseen
    return found


def _check(
    result: TwoWay,
    metric: Metric,
    pairs: Mapping[int, tuple[ScoredRun, ScoredRun]],
    resampled: Mapping[tuple[Path, str], np.ndarray],
) -> Bootstrap | None:
    """Return the bootstrap beside a test, None where nothing was tested."""
    if result.identical or result.problem:
        return None
    baseline, arm = (
        np.stack([resampled[pair[side].folder, metric.name] for pair in pairs.values()], axis=1)
        for side in (0, 1)
    )
    return significance.bootstrap(baseline, arm)


def _ratio(result: TwoWay, metric: Metric) -> tuple[float, tuple[float, float]] | tuple[None, None]:
    """Return the arm's score over the baseline's and its 95 % interval; None on a linear scale."""
    if metric.scale != "log":
        return None, None
    sign = 1 if metric.higher_is_better else -1
    ratio, *ends = (math.exp(sign * value / 100) for value in (result.difference, *result.ci95))
    low, high = sorted(ends)
    return ratio, (low, high)


def _estimate(one: Comparison) -> Estimate | None:
    """Return what a primary comparison says of its arm, in margins; None where it may not claim."""
    if not one.primary or one.margin is None or one.result is None or not one.may_claim:
        return None
    by = one.cell.ablation.get("by")
    group = one.cell.group(by) if by else ""
    return Estimate(one.arm, one.result.difference / one.margin, one.result.se / one.margin, group)


def _adjust(comparisons: Sequence[Comparison]) -> None:
    """Adjust p over the whole declared family: by Holm, and those of the margin as one of their own.

    A comparison that may claim nothing counts as p = 1 and gets no adjusted p: leaving it out would make the
    others look better because a run is missing.
    """
    family = [comparison for comparison in comparisons if comparison.primary]
    raw = [comparison.family_p for comparison in family]
    for comparison, p, adjusted in zip(family, raw, significance.holm(raw)):
        comparison.p_holm = None if math.isnan(p) else min(1.0, adjusted / comparison.part(len(family)))
    inside = [comparison for comparison in family if comparison.margin is not None]
    for comparison, sides in zip(inside, margins.adjusted([one.one_sided for one in inside])):
        if sides is not None:
            worse, better = (min(1.0, p / comparison.part(len(inside))) for p in sides)
            comparison.p_margin = worse, better
    for comparison in comparisons:
        if not comparison.primary:
            comparison.p_margin = comparison.one_sided


def _shared(environments: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Return what all runs have in common; a field that differs lists its values."""
    shared: dict[str, object] = {}
    for name in dict.fromkeys(name for environment in environments for name in environment):
        values = [environment.get(name) for environment in environments]
        distinct = [value for place, value in enumerate(values) if value not in values[:place]]
        shared[name] = distinct[0] if len(distinct) == 1 else distinct
    return shared


def _relative(run: ScoredRun | None, folder: Path | None) -> str | None:
    if run is None:
        return None
    return Path(os.path.relpath(run.folder, folder) if folder else run.folder).as_posix()
