"""What a report knows: the rows of results.json and the manifests of the runs behind them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipelines.report import format as fmt
from pipelines.storage.names import MANIFEST

VERDICTS = {  # word -> (glyph, whether it settles the question)
    "better": ("▲", True),
    "worse": ("▼", True),
    "equivalent": ("=", True),
    "non-inferior": ("≥", True),
    "identical": ("≡", True),
    "inconclusive": ("?", False),
    "unstable": ("!", False),
    "no-verdict": ("–", False),
}


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
    def manifest(self) -> Mapping[str, Any]:
        """What the run says of itself; empty when the folder is not here (a report that travelled)."""
        return _read_json(self.folder / MANIFEST)

    @property
    def status(self) -> str:
        return self.manifest.get("status", "unknown")

    @property
    def step_seconds(self) -> float | None:
        """Training seconds of an optimizer step."""
        device = self.manifest.get("environment", {}).get("device")
        return _step_seconds(self.manifest, self.manifest.get("num_steps"), device)


@dataclass(frozen=True)
class Row:
    """One comparison: a cell, an arm against the baseline, one metric."""

    source: Mapping[str, Any]
    baseline_runs: tuple[RunLink, ...] = ()
    arm_runs: tuple[RunLink, ...] = ()

    def __getattr__(self, name: str) -> Any:
        """Fields of the comparison by their names in the schema; absent optional ones are None."""
        if name.startswith("__"):
            raise AttributeError(name)
        return self.source.get(name)

    @property
    def key(self) -> tuple[str, str, str]:
        return self.cell, self.metric, self.arm

    @property
    def places(self) -> int:
        return fmt.decimals(self.se, self.margin)

    @property
    def word(self) -> str:
        """The verdict's first word, one of VERDICTS where it is known."""
        verdict = self.verdict or "no-verdict"
        known = [word for word in VERDICTS if verdict.startswith(word)]
        return max(known, key=len) if known else verdict

    @property
    def glyph(self) -> str:
        return VERDICTS.get(self.word, ("?", False))[0]

    @property
    def settled(self) -> bool:
        return VERDICTS.get(self.word, ("?", False))[1]

    @property
    def by_seed(self) -> list[float | None]:
        """Difference of every seed's pair, positive where the arm is better; None where a run is missing."""
        if self.seed_differences is not None:
            return list(self.seed_differences)
        return [None] * len(self.seeds or ())


@dataclass(frozen=True)
class ReportData:
    """Everything the outputs are written from."""

    results: Mapping[str, Any]
    folder: Path
    rows: tuple[Row, ...]
    runs: Mapping[tuple[str, str, int], RunLink] = field(default_factory=dict)

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
        """The baseline, then the other arms in the order of the results: an arm's place is its colour."""
        return list(dict.fromkeys([self.baseline, *(row.arm for row in self.rows)]))

    @cached_property
    def cells(self) -> list[str]:
        return list(dict.fromkeys(row.cell for row in self.rows))

    @property
    def failures(self) -> list[Mapping[str, Any]]:
        return list(self.results.get("failures") or ())

    @property
    def title(self) -> str:
        return self.results.get("title") or self.folder.resolve().name

    def place(self, arm: str) -> int:
        return self.arms.index(arm)

    def about(self, cell: str, arm: str) -> Mapping[str, Any]:
        """What an arm costs in a cell and how it began; empty where nothing finished."""
        return ((self.results.get("arms") or {}).get(cell) or {}).get(arm) or {}

    def step_seconds(self, cell: str, arm: str) -> float | None:
        """Mean training seconds of an optimizer step."""
        about = self.about(cell, arm)
        device = (self.results.get("environment") or {}).get("device")
        return _step_seconds(about, fmt.mean(about.get("num_steps") or ()), device)

    def time_ratio(self, row: Row) -> float | None:
        """Seconds per step of the arm over those of the baseline."""
        arm, baseline = (self.step_seconds(row.cell, name) for name in (row.arm, row.baseline))
        return arm / baseline if fmt.known(arm) and baseline else None

    def primary_of(self, cell: str) -> list[Row]:
        return [row for row in self.primary if row.cell == cell]

    def runs_of(self, cell: str, arm: str) -> list[RunLink]:
        return [run for run in self.runs.values() if (run.cell, run.arm) == (cell, arm)]


def load(results: Mapping[str, Any], folder: Path) -> ReportData:
    """Facts of `results`, whose run folders are absolute or relative to `folder`."""
    rows, runs = [], {}
    for comparison in results.get("comparisons") or ():
        pair = [_runs_of(comparison, side, folder) for side in ("baseline", "arm")]
        row = Row(comparison, *pair)
        rows.append(row)
        for run in (*row.baseline_runs, *row.arm_runs):
            key = (run.cell, run.arm, run.seed)
            runs[key] = run if row.primary else runs.get(key, run)  # a run's score is the primary one
    rows.sort(key=lambda row: not row.primary)  # stable: primary first, the order of the file otherwise
    return ReportData(results, folder, tuple(rows), runs)


def _step_seconds(times: Mapping[str, Any], steps: float | None, device: object) -> float | None:
    """On a CPU what the process computed: by the clock, busy neighbours make an arm slow."""
    seconds = times.get("train_cpu_seconds" if device == "cpu" else "train_seconds")
    return seconds / steps if fmt.known(seconds) and steps else None


def _runs_of(comparison: Mapping[str, Any], side: str, folder: Path) -> tuple[RunLink, ...]:
    """The runs of one side; a seed without a folder has no run."""
    arm = comparison["baseline"] if side == "baseline" else comparison["arm"]
    paths = (comparison.get("runs") or {}).get(side) or ()
    scores = comparison.get(f"{side}_scores") or ()
    scores = [*scores, *[None] * (len(paths) - len(scores))]
    return tuple(
        RunLink(comparison["cell"], arm, seed, *_locate(path, folder), score)
        for seed, path, score in zip(comparison.get("seeds") or (), paths, scores)
        if path
    )


def _locate(path: str, folder: Path) -> tuple[Path, str]:
    """Where a run folder is, and a relative link to it from the report."""
    absolute = Path(os.path.abspath(folder / path))
    relative = os.path.relpath(absolute, os.path.abspath(folder))
    return absolute, quote(Path(relative).as_posix()) + "/"


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
