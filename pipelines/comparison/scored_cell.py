"""The finished runs of one cell of an ablation, side by side: pairs, statistics, what an arm costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from statistics import fmean
from typing import Any

import numpy as np

from pipelines.comparison import significance
from pipelines.comparison.pairing import check_pair, check_same_examples
from pipelines.comparison.scored_run import ScoredRun, common_split, read
from pipelines.comparison.significance import TwoWay
from pipelines.metrics.base import Metric, comparable

Key = tuple[str, str, int]  # cell, arm, seed


@dataclass(frozen=True)
class ScoredCell:
    """The finished runs of one task and model."""

    name: str
    ablation: Mapping[str, Any]
    split: str | None
    runs: Mapping[tuple[str, int], ScoredRun]  # by arm and seed

    @classmethod
    def load(cls, name: str, ablation: Mapping[str, Any], runs: Mapping[Key, Path]) -> ScoredCell:
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
        if not model.get("name"):
            return f"{model.get('architecture')} from scratch"
        path = PurePath(model["name"])
        return path.parent.name if path.name == "model" else path.name  # the model of a run

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

    def pairs(self, arm: str) -> dict[int, tuple[ScoredRun, ScoredRun]]:
        """(baseline, arm) of every seed that both finished."""
        both = {
            seed: (self.runs.get((self.baseline, seed)), self.runs.get((arm, seed))) for seed in self.seeds
        }
        return {seed: pair for seed, pair in both.items() if None not in pair}

    def notes(self, arm: str) -> list[str]:
        """What the pairs of an arm do not share, each said once; refuses what is no pair."""
        found = [note for baseline, other in self.pairs(arm).values() for note in check_pair(baseline, other)]
        return list(dict.fromkeys(found))

    def two_way(self, name: str, pairs: Mapping[int, tuple[ScoredRun, ScoredRun]]) -> TwoWay:
        """The arm of some pairs against the baseline by one metric."""
        sides = [np.stack([pair[side].statistics[name] for pair in pairs.values()]) for side in (0, 1)]
        clusters = next(iter(pairs.values()))[0].clusters
        return significance.two_way(*sides, comparable(self.metric(name)), clusters)

    def resampled(self) -> dict[tuple[Path, str], np.ndarray]:
        """Sums `(resamples, columns)` of every run and metric, all with the same draws."""
        parts = {
            (run.folder, name): significance.cluster_sums(run.statistics[name], run.clusters)
            for run in self.runs.values()
            for name in run.statistics
        }
        ends = np.cumsum([part.shape[1] for part in parts.values()])
        sums = significance.resample(np.concatenate(list(parts.values()), axis=1))
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
            "forward_flops": first.get("forward_flops"),
            "train_seconds": _mean([manifest.get("train_seconds") for manifest in manifests]),
            "train_cpu_seconds": _mean([manifest.get("train_cpu_seconds") for manifest in manifests]),
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


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
