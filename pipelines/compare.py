"""From run folders to results.json: every arm against the baseline, in every cell, by every metric."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from pipelines import statistics
from pipelines.metric import Metric
from pipelines.pairing import (
    FinishedRun,
    check_pair,
    check_same_examples,
    common_split,
    read,
    share_identical,
)
from pipelines.statistics import Bootstrap, TwoWay, Value, Verdict

SCHEMA_VERSION = 1
Key = tuple[str, str, int]  # cell, arm, seed


def build(
    ablation: Mapping[str, Any],
    runs: Mapping[Key, Path],
    failures: Sequence[Mapping[str, Any]] = (),
    registration: Mapping[str, Any] | None = None,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Everything a report needs beside the run folders, JSON-able, as `schema/results.schema.json` says.

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
            cell = Cell.load(name, part.ablation, part.runs)
            comparisons += cell.comparisons()
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
        "failures": failures,
    }
    return _jsonable(content)


@dataclass
class Comparison:
    """One arm against the baseline by one metric in one cell."""

    cell: Cell
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
        return statistics.verdict(
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
        return [*self.notes, *blind, *statistics.flags(self.result, self.check, seeds)]

    @property
    def claims(self) -> bool:
        """Whether its p may count as evidence: every planned pair is there, and there are enough."""
        complete = len(self.cell.pairs(self.arm)) == len(self.cell.seeds) >= statistics.MIN_SEEDS
        return complete and self.result is not None and self.result.problem is None


@dataclass(frozen=True)
class Cell:
    """The finished runs of one task and model."""

    name: str
    ablation: Mapping[str, Any]
    split: str | None
    runs: Mapping[tuple[str, int], FinishedRun]  # by arm and seed

    @classmethod
    def load(cls, name: str, ablation: Mapping[str, Any], runs: Mapping[Key, Path]) -> Cell:
        mine = {(arm, seed): Path(path) for (cell, arm, seed), path in runs.items() if cell == name}
        split = common_split(list(mine.values())) if mine else None
        loaded = {
            (arm, seed): read(path, f"{arm}, seed {seed} of {name}", split)
            for (arm, seed), path in mine.items()
        }
        check_same_examples(list(loaded.values()))
        return cls(name, ablation, split, loaded)

    @property
    def baseline(self) -> str:
        return self.ablation["baseline"]

    @property
    def seeds(self) -> Sequence[int]:
        return self.ablation["seeds"]

    @property
    def task(self) -> str:
        return self.ablation["cells"][self.name]["task"]["name"]

    @property
    def model(self) -> str:
        """The model's name without the folder it lies in, or its architecture when it starts from scratch."""
        model = self.ablation["cells"][self.name]["model"]
        return (
            os.path.basename(model["name"])
            if model.get("name")
            else f"{model.get('architecture')} from scratch"
        )

    @property
    def primary(self) -> str | None:
        """The declared metric of the task, else the one that chose checkpoints."""
        declared = self.ablation["primary"].get(self.task)
        return declared or next((run.manifest["primary"] for run in self.runs.values()), None)

    def metric(self, name: str) -> Metric | None:
        return next((run.metrics[name] for run in self.runs.values()), None)

    def score(self, arm: str, seed: int, name: str) -> float | None:
        run = self.runs.get((arm, seed))
        return run.score(name) if run else None

    def pairs(self, arm: str) -> dict[int, tuple[FinishedRun, FinishedRun]]:
        """(baseline, arm) of every seed that both finished."""
        both = {
            seed: (self.runs.get((self.baseline, seed)), self.runs.get((arm, seed))) for seed in self.seeds
        }
        return {seed: pair for seed, pair in both.items() if None not in pair}

    def comparisons(self) -> Iterator[Comparison]:
        """Primary metric first, then the others; arms in the order of the ablation."""
        measured = list(next(iter(self.runs.values())).metrics) if self.runs else []
        names = sorted({self.primary, *measured} - {None}, key=lambda name: (name != self.primary, name))
        arms = [arm for arm in self.ablation["arms"] if arm != self.baseline]
        notes = {arm: self._notes(arm) for arm in arms}
        resampled = self._resampled() if self.runs else {}
        for name in names:
            for arm in arms:
                comparison = Comparison(self, arm, name, name == self.primary, notes[arm])
                pairs = self.pairs(arm)
                if pairs:
                    comparison.result, comparison.check = self._compare(name, pairs, resampled)
                yield comparison

    def _notes(self, arm: str) -> list[str]:
        """What the pairs of an arm do not share, each said once; refuses what is no pair."""
        found = [note for baseline, other in self.pairs(arm).values() for note in check_pair(baseline, other)]
        return list(dict.fromkeys(found))

    def two_way(self, name: str, pairs: Mapping[int, tuple[FinishedRun, FinishedRun]]) -> TwoWay:
        """The arm of some pairs against the baseline by one metric."""
        sides = [np.stack([pair[side].statistics[name] for pair in pairs.values()]) for side in (0, 1)]
        clusters = next(iter(pairs.values()))[0].clusters
        return statistics.two_way(*sides, comparable(self.metric(name)), clusters)

    def _compare(self, name: str, pairs: Mapping, resampled: Mapping) -> tuple[TwoWay, Bootstrap | None]:
        value = comparable(self.metric(name))
        result = self.two_way(name, pairs)
        if result.identical or result.problem:
            return result, None
        drawn = [
            np.stack([resampled[pair[side].folder, name] for pair in pairs.values()], axis=1)
            for side in (0, 1)
        ]
        return result, statistics.bootstrap(*drawn, value)

    def _resampled(self) -> dict[tuple[Path, str], np.ndarray]:
        """Sums `(resamples, columns)` of every run and metric, all with the same draws."""
        parts = {
            (run.folder, name): statistics.cluster_sums(run.statistics[name], run.clusters)
            for run in self.runs.values()
            for name in run.statistics
        }
        ends = np.cumsum([part.shape[1] for part in parts.values()])
        sums = statistics.resample(np.concatenate(list(parts.values()), axis=1))
        return dict(zip(parts, np.split(sums, ends[:-1], axis=1)))

    def facts(self, arm: str) -> dict[str, Any]:
        """What an arm costs and how it began, over its finished runs."""
        manifests = [self.runs[arm, seed].manifest for seed in self.seeds if (arm, seed) in self.runs]
        if not manifests:
            return {"num_runs": 0}
        proofs = [manifest.get("proof") or {} for manifest in manifests]
        first = manifests[0]
        return {
            "num_runs": len(manifests),
            "num_parameters": first.get("num_parameters"),
            "num_variant_parameters": first.get("num_variant_parameters"),
            "train_seconds": _mean([manifest.get("train_seconds") for manifest in manifests]),
            "total_seconds": _mean([manifest.get("total_seconds") for manifest in manifests]),
            "peak_memory_bytes": max(manifest.get("peak_memory_bytes") or 0 for manifest in manifests)
            or None,
            "num_steps": [manifest.get("num_steps") for manifest in manifests],
            "best_step": [manifest.get("best_step") for manifest in manifests],
            "proof": {
                "max_difference": max(proof.get("max_difference") or 0.0 for proof in proofs),
                "starts_as_stock": proofs[0].get("starts_as_stock"),
                "sites": proofs[0].get("reached"),
                "sentence": proofs[0].get("sentence"),
            },
        }


def comparable(metric: Metric) -> Value:
    """Summed statistics to the value that is compared: more is better, log scales in hundredths.

    A difference of 1 on a log scale is a factor of exp(0.01), about one per cent.
    """
    sign = 1 if metric.higher_is_better else -1

    def value(sums: np.ndarray) -> np.ndarray:
        score = metric.score(sums)
        if metric.scale == "linear":
            return sign * score
        with np.errstate(divide="ignore"):
            return sign * 100 * np.log(score)

    return value


def _ratio(result: TwoWay, metric: Metric) -> tuple[float, list[float]]:
    """The arm's score over the baseline's, and its 95 % interval."""
    sign = 1 if metric.higher_is_better else -1
    ends = [math.exp(sign * end / 100) for end in (result.difference, *result.ci95)]
    return ends[0], sorted(ends[1:])


def _adjust(comparisons: Sequence[Comparison]) -> None:
    """Holm over the whole declared family; a comparison that may claim nothing keeps its place with p = 1."""
    family = [comparison for comparison in comparisons if comparison.primary]
    raw = [comparison.result.p if comparison.claims else math.nan for comparison in family]
    for comparison, adjusted in zip(family, statistics.holm(raw)):
        comparison.p_holm = adjusted if comparison.claims else None


def _shared(environments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all runs have in common; a field that differs lists its values."""
    shared: dict[str, Any] = {}
    for name in dict.fromkeys(name for environment in environments for name in environment):
        values = [environment.get(name) for environment in environments]
        distinct = [value for place, value in enumerate(values) if value not in values[:place]]
        shared[name] = distinct[0] if len(distinct) == 1 else distinct
    return shared


def _relative(run: FinishedRun | None, folder: Path | None) -> str | None:
    if run is None:
        return None
    return Path(os.path.relpath(run.folder, folder) if folder else run.folder).as_posix()


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _jsonable(value: Any) -> Any:
    """Plain JSON: tuples as lists, numbers that are not finite as null."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
