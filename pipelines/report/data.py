"""What a report shows: the content of results.json and the manifests of the runs behind it."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from pipelines.comparison.recipe import CellRecipe
from pipelines.comparison.results import ArmSummary, ComparisonResult, Results, from_json
from pipelines.report import format as fmt
from pipelines.storage import reading
from pipelines.storage.names import MANIFEST, RESULTS
from pipelines.storage.run_folder import WRITTEN_BY_A_RUN

VERDICTS = {  # word -> (glyph, whether it settles the question)
    "better": ("▲", True),
    "worse": ("▼", True),
    "usually better": ("△", True),
    "usually worse": ("▽", True),
    "equivalent": ("=", True),
    "non-inferior": ("≥", True),
    "identical": ("≡", True),
    "insensitive": ("~", False),
    "inconclusive": ("?", False),
    "unstable": ("!", False),
    "no-verdict": ("–", False),
}


@dataclass(frozen=True)
class RunProof:
    """The part of a run's check before training that a report uses."""

    expected: int | None = None  # attention sites of the model


@dataclass(frozen=True)
class RunData:
    """The part of a run's data record that a report uses."""

    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # split -> what -> how many
    num_examples: Mapping[str, int] = field(default_factory=dict)  # split -> examples
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunRecord:
    """The part of a run's manifest.json that a report uses."""

    status: str = "unknown"
    best_step: int | None = None
    num_steps: int | None = None
    train_seconds: float | None = None
    train_cpu_seconds: float | None = None  # of one process
    total_seconds: float | None = None
    batches_hash: str | None = None
    dropout_paired: bool | None = None  # whether its dropout masks are those of the other arms
    proof: RunProof | None = None
    data: RunData = field(default_factory=RunData)
    generation_set_aside: Mapping[str, object] = field(default_factory=dict)  # of the checkpoint
    environment: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class RunLink:
    """One training run: a seed of an arm in a cell. `href` is relative to the report's folder."""

    cell: str
    arm: str
    seed: int
    folder: Path
    href: str
    score: float | None = None

    @cached_property
    def record(self) -> RunRecord | None:
        """The run's manifest; None where the run folder is missing, as in a report that was copied alone.

        Raises:
            UserError: the manifest is damaged, or a field of it has the wrong type.
        """
        path = self.folder / MANIFEST
        if not reading.is_there(path):
            return None
        stored = reading.json_object(path, WRITTEN_BY_A_RUN)
        return from_json(RunRecord, stored, str(path), WRITTEN_BY_A_RUN)

    @property
    def step_seconds(self) -> float | None:
        """Training seconds of one optimizer step."""
        if self.record is None:
            return None
        return _step_seconds(self.record, self.record.num_steps, self.record.environment.get("device"))


@dataclass(frozen=True, kw_only=True)
class Row(ComparisonResult):
    """One comparison with links to the runs behind it."""

    baseline_runs: tuple[RunLink, ...] = ()
    arm_runs: tuple[RunLink, ...] = ()

    @property
    def places(self) -> int:
        """Decimals of its differences."""
        return fmt.decimals(self.se, self.margin)

    @property
    def word(self) -> str:
        """The verdict's first word, one of VERDICTS where it is known."""
        known = [word for word in VERDICTS if self.verdict.startswith(word)]
        return max(known, key=len) if known else self.verdict

    @property
    def glyph(self) -> str:
        return VERDICTS.get(self.word, ("?", False))[0]

    @property
    def settled(self) -> bool:
        """Whether the verdict answers the question, one way or the other."""
        return VERDICTS.get(self.word, ("?", False))[1]

    @property
    def by_seed(self) -> list[float | None]:
        """Difference of every seed's pair, positive where the arm is better; None where a run is missing."""
        return list(self.seed_differences) or [None] * len(self.seeds)


@dataclass(frozen=True)
class ReportData:
    """Everything that the outputs are written from."""

    results: Results
    folder: Path
    rows: tuple[Row, ...]
    runs: Mapping[tuple[str, str, int], RunLink]  # by cell, arm and seed

    @cached_property
    def primary(self) -> list[Row]:
        return [row for row in self.rows if row.primary]

    @cached_property
    def exploratory(self) -> list[Row]:
        return [row for row in self.rows if not row.primary]

    @cached_property
    def baseline(self) -> str:
        return self.rows[0].baseline if self.rows else "stock"

    @cached_property
    def arms(self) -> list[str]:
        """The baseline, then the other arms as the results order them; the place of an arm is its colour."""
        return list(dict.fromkeys([self.baseline, *(row.arm for row in self.rows)]))

    @cached_property
    def cells(self) -> list[str]:
        return list(dict.fromkeys(row.cell for row in self.rows))

    @property
    def is_after_the_fact(self) -> bool:
        """Whether others made what is compared, and nothing was declared before."""
        return self.results.sources is not None

    @property
    def of_two_models(self) -> bool:
        """Whether each side is one model, so that nothing is known of how the training varies."""
        return self.is_after_the_fact and all(len(row.seeds) == 1 for row in self.rows)

    @property
    def recipes(self) -> Mapping[str, CellRecipe]:
        """How each cell was trained; empty for results of 0.1, which do not say."""
        return self.results.recipe or {}

    @property
    def title(self) -> str:
        return self.results.title or self.folder.resolve().name

    def place(self, arm: str) -> int:
        """Return the place of an arm in `arms`; 0 is the baseline."""
        return self.arms.index(arm)

    def summary(self, cell: str, arm: str) -> ArmSummary:
        """Return what an arm costs in a cell and how it started; `num_runs` is 0 where no run finished."""
        return self.results.arms.get(cell, {}).get(arm) or ArmSummary(num_runs=0)

    def step_seconds(self, cell: str, arm: str) -> float | None:
        """Return the mean training seconds of one optimizer step."""
        summary = self.summary(cell, arm)
        return _step_seconds(summary, fmt.mean(summary.num_steps), self.results.environment.get("device"))

    def time_ratio(self, row: Row) -> float | None:
        """Return the seconds per step of the arm over those of the baseline."""
        arm, baseline = (self.step_seconds(row.cell, name) for name in (row.arm, row.baseline))
        return arm / baseline if arm is not None and baseline else None

    def time_interval(self, row: Row) -> tuple[float, float] | None:
        """Return the 95 % interval of `time_ratio`, by t over the pairs of runs; None for one."""
        from scipy.special import stdtrit

        arm, baseline = (
            {run.seed: run.step_seconds for run in self.runs_of(row.cell, name)}
            for name in (row.arm, row.baseline)
        )
        pairs = [
            (mine, theirs)
            for seed, mine in arm.items()
            if mine is not None and (theirs := baseline.get(seed)) is not None
        ]
        ratio = self.time_ratio(row)
        if len(pairs) < 2 or ratio is None:
            return None
        usual = statistics.fmean(theirs for _, theirs in pairs)
        spread = statistics.stdev((mine - theirs) / usual for mine, theirs in pairs)
        reach = float(stdtrit(len(pairs) - 1, 0.975)) * spread / math.sqrt(len(pairs))
        return ratio - reach, ratio + reach

    def primary_of(self, cell: str) -> list[Row]:
        return [row for row in self.primary if row.cell == cell]

    def runs_of(self, cell: str, arm: str) -> list[RunLink]:
        return [run for run in self.runs.values() if (run.cell, run.arm) == (cell, arm)]

    def records_of(self, cell: str, arm: str) -> list[RunRecord]:
        """Return the manifests of the runs whose folders exist."""
        return [run.record for run in self.runs_of(cell, arm) if run.record is not None]


def load(results: Mapping[str, object], folder: Path) -> ReportData:
    """Return the report data of results.json; its run folders are absolute or relative to `folder`.

    Raises:
        UserError: a field of the results is missing or has the wrong type.
    """
    checked = from_json(Results, results, str(folder / RESULTS))
    rows = [_row(comparison, folder) for comparison in checked.comparisons]
    rows.sort(key=lambda row: not row.primary)  # stable: primary first, the order of the file otherwise
    runs: dict[tuple[str, str, int], RunLink] = {}
    for row in rows:
        for run in (*row.baseline_runs, *row.arm_runs):
            runs.setdefault((run.cell, run.arm, run.seed), run)  # the score of a run is its primary one
    return ReportData(checked, folder, tuple(rows), runs)


def _step_seconds(times: RunRecord | ArmSummary, steps: float | None, device: object) -> float | None:
    """Return seconds per step; on a CPU those that the process computed.

    Other processes on a busy CPU make an arm slow by the clock, but do not change its computing time.
    """
    seconds = times.train_cpu_seconds if device == "cpu" else times.train_seconds
    return seconds / steps if fmt.known(seconds) and steps else None


def _row(comparison: ComparisonResult, folder: Path) -> Row:
    runs, cell, seeds = comparison.runs, comparison.cell, comparison.seeds
    return Row(
        **vars(comparison),
        baseline_runs=_links(
            cell, comparison.baseline, seeds, runs.baseline, comparison.baseline_scores, folder
        ),
        arm_runs=_links(cell, comparison.arm, seeds, runs.arm, comparison.arm_scores, folder),
    )


def _links(
    cell: str,
    arm: str,
    seeds: Sequence[int],
    paths: Sequence[str | None],
    scores: Sequence[float | None],
    folder: Path,
) -> tuple[RunLink, ...]:
    """Return the runs of one side; a seed without a folder has none."""
    return tuple(
        RunLink(cell, arm, seed, *_locate(path, folder), score)
        for seed, path, score in zip(seeds, paths, scores)
        if path is not None
    )


def _locate(path: str, folder: Path) -> tuple[Path, str]:
    """Return a run folder's absolute path, and a relative link to it from the report."""
    absolute = Path(os.path.abspath(folder / path))
    relative = os.path.relpath(absolute, os.path.abspath(folder))
    return absolute, quote(Path(relative).as_posix()) + "/"
