"""The finished runs of one cell of an ablation: pairs, tests, what an arm costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from statistics import fmean
from typing import Any

import numpy as np

from pipelines.comparison import without_model
from pipelines.comparison.alpha_spending import part_of_level
from pipelines.comparison.pairing import check_outputs, check_pair, check_same_examples
from pipelines.comparison.results import ArmSummary, SeedLook, StartSummary
from pipelines.comparison.scored_run import ScoredRun, common_split, hash_of_test, read
from pipelines.comparison.significance import (
    MIN_SEEDS,
    TwoWay,
    cluster_sums,
    differing,
    paired_test,
    resampled_values,
)
from pipelines.errors import UserError
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
        """Read the runs of a cell.

        Raises:
            UserError: a run is damaged, or two were not scored on the same examples.
        """
        folders = {(arm, seed): Path(path) for (cell, arm, seed), path in runs.items() if cell == name}
        if not folders:
            return cls(name, ablation, None, {})
        split = common_split(list(folders.values()))
        loaded = {
            (arm, seed): read(path, f"{arm}, seed {seed} of {name}", split)
            for (arm, seed), path in folders.items()
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
        """The model's name without its folder, or the architecture where training starts from scratch."""
        model = self.ablation["cells"][self.name]["model"]
        if not model.get("name"):
            return f"{model.get('architecture')} from scratch"
        path = PurePath(model["name"])
        return path.parent.name if path.name == "model" else path.name  # the model of a run

    def group(self, by: str) -> str:
        """Return the group of cells that this one belongs to: those of its family, task or size."""
        if by == "task":
            return self.task
        if by == "family":
            return str(self.ablation["cells"][self.name]["model"]["family"]).replace("_", "-")
        count = max(
            (run.manifest["num_parameters"] for (arm, _), run in self.runs.items() if arm == self.baseline)
        )
        power = len(str(count)) - 1
        low, high = (f"{10 ** (n % 3)}{' kMGT'[n // 3].strip()}" for n in (power, power + 1))
        return f"{low} to {high} parameters"

    @property
    def primary(self) -> str | None:
        """The declared metric of the task, else the metric that chose checkpoints; None without a run."""
        declared = self.ablation["primary"].get(self.task)
        return declared or next((run.manifest["primary"] for run in self.runs.values()), None)

    def metric(self, name: str) -> Metric | None:
        run = next(iter(self.runs.values()), None)
        if run is not None and name not in run.metrics:
            what = f"{run.label} was not scored by {name}, which is said to be primary"
            raise UserError("primary", what, accepted=f"it was by {', '.join(run.metrics)}")
        return run.metrics[name] if run is not None else None

    def score(self, arm: str, seed: int, name: str) -> float | None:
        run = self.runs.get((arm, seed))
        return run.score(name) if run else None

    def pairs(self, arm: str) -> dict[int, tuple[ScoredRun, ScoredRun]]:
        """Return the runs of the baseline and of the arm for every seed that both finished."""
        return {
            seed: (self.runs[self.baseline, seed], self.runs[arm, seed])
            for seed in self.seeds
            if (self.baseline, seed) in self.runs and (arm, seed) in self.runs
        }

    def notes(self, arm: str) -> list[str]:
        """Return what the pairs of an arm do not share, each clause once.

        Raises:
            UserError: two runs cannot be paired (see `check_pair`, `check_outputs`).
        """
        check = check_outputs if self.is_after_the_fact else check_pair
        found = [note for baseline, other in self.pairs(arm).values() for note in check(baseline, other)]
        return list(dict.fromkeys([*found, *self.ablation.get("notes", {}).get(arm, ())]))

    @property
    def is_after_the_fact(self) -> bool:
        """Whether the runs were made elsewhere, and nothing was declared before them."""
        return bool(self.ablation.get("after_the_fact"))

    @property
    def least_seeds(self) -> int:
        """The seeds from which there is a verdict: one, about two models, where each side has one."""
        return 1 if self.is_after_the_fact and len(self.seeds) == 1 else MIN_SEEDS

    @property
    def selected(self) -> str:
        """How scores come from a selection on the split that is judged, as a clause; empty: they do not."""
        if self.split != "validation" and not self._judges_on_validation:
            return ""
        if self.ablation.get("search"):
            return "its settings were chosen on the split that is judged: a test split is needed"
        manifests = [run.manifest for run in self.runs.values()]
        chosen = sum(one.get("best_step") != one.get("num_steps") for one in manifests)
        if not chosen:
            return ""
        return (
            f"{chosen} of {len(manifests)} runs kept the checkpoint that was best on the split that is "
            "judged: a test split is needed"
        )

    @property
    def _judges_on_validation(self) -> bool:
        """Whether the test split has the rows of the validation split, in any order."""
        data = [run.manifest.get("data", {}) for run in self.runs.values()]
        hashes = [[hash_of_test(one, split) for split in ("test", "validation")] for one in data]
        return any(test is not None and test == validation for test, validation in hashes)

    def behind(self, arm: str) -> str:
        """Return which runs of an arm or of the baseline learned nothing, as a clause; empty: none."""
        for side in (arm, self.baseline):
            runs = [self.runs[side, seed].manifest for seed in self.seeds if (side, seed) in self.runs]
            if found := without_model.note(runs):
                return f"{side} did not learn: {found}"
        return ""

    def fall(self, side: str, name: str) -> float | None:
        """Return how far a side is from what needs no model, in the unit of differences; None: unknown."""
        runs = [self.runs[side, seed] for seed in self.seeds if (side, seed) in self.runs]
        metric = self.metric(name)
        if metric is None or not runs:
            return None
        floor = without_model.lowest(runs[0].manifest, name, metric.higher_is_better)
        if floor is None or (metric.scale == "log" and floor <= 0):
            return None
        value = 100 * math.log(floor) if metric.scale == "log" else floor
        turned = value if metric.higher_is_better else -value
        found = fmean(run.deletions(name).whole for run in runs) - turned
        return max(0.0, found) if math.isfinite(found) else None

    def part(self, num_seeds: int, comparisons: int = 1) -> float:
        """Return the part of a level that a look after so many seeds may use; 1 in a fixed design."""
        stopping = self.ablation.get("stopping")
        return part_of_level(num_seeds, stopping["most_seeds"], comparisons) if stopping else 1.0

    def looks(self, name: str, arm: str) -> tuple[SeedLook, ...] | None:
        """Return what each look of a sequential design saw; None in a fixed one."""
        pairs = list(self.pairs(arm).items())
        if not self.ablation.get("stopping"):
            return None
        counts = range(MIN_SEEDS, len(pairs) + 1)
        found = [self.two_way(name, dict(pairs[:count])) for count in counts]
        return tuple(
            SeedLook(count, one.difference, one.ci95)
            for count, one in zip(counts, found)
            if one.problem is None
        )

    def two_way(self, name: str, pairs: Mapping[int, tuple[ScoredRun, ScoredRun]]) -> TwoWay:
        """Compare the two sides of some pairs (at least one) by one metric."""
        baseline, arm = ([pair[side].deletions(name) for pair in pairs.values()] for side in (0, 1))
        differs = [differing(*(run.statistics[name] for run in pair)) for pair in pairs.values()]
        return paired_test(baseline, arm, differs, self.part(len(pairs)))

    def resampled(self) -> dict[tuple[Path, str], np.ndarray]:
        """Return the compared value of every run and metric over the same resamples, `(resamples,)`."""
        runs = {(run.folder, name): run for run in self.runs.values() for name in run.statistics}
        groups = {key: cluster_sums(run.statistics[key[1]], run.clusters) for key, run in runs.items()}
        return resampled_values(groups, {key: comparable(run.metrics[key[1]]) for key, run in runs.items()})

    def summary(self, arm: str) -> ArmSummary:
        """Return what an arm costs and how it started, over its finished runs."""
        manifests = [self.runs[arm, seed].manifest for seed in self.seeds if (arm, seed) in self.runs]
        if not manifests:
            return ArmSummary(num_runs=0)
        proofs = [manifest.get("proof") or {} for manifest in manifests]
        first = manifests[0]
        return ArmSummary(
            num_runs=len(manifests),
            num_parameters=first.get("num_parameters"),
            num_variant_parameters=first.get("num_variant_parameters"),
            forward_flops=first.get("forward_flops"),
            train_seconds=_mean([manifest.get("train_seconds") for manifest in manifests]),
            train_cpu_seconds=_mean([manifest.get("train_cpu_seconds") for manifest in manifests]),
            total_seconds=_mean([manifest.get("total_seconds") for manifest in manifests]),
            peak_memory_bytes=max(manifest.get("peak_memory_bytes") or 0 for manifest in manifests) or None,
            num_steps=tuple(manifest.get("num_steps") for manifest in manifests),
            best_step=tuple(manifest.get("best_step") for manifest in manifests),
            proof=StartSummary(
                max_difference=max(proof.get("max_difference") or 0.0 for proof in proofs),
                starts_as_stock=proofs[0].get("starts_as_stock"),
                sites=proofs[0].get("reached"),
                sentence=proofs[0].get("sentence"),
            ),
            without_model=without_model.note(manifests),
        )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
