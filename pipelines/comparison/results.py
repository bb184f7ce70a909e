"""The content of results.json as types: `compare` builds it, reports read it.

`config/schema/results.schema.json` describes the file for readers elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator

from pipelines.comparison.collapse import Collapse, Unseen
from pipelines.comparison.recipe import CellRecipe
from pipelines.comparison.significance import Bootstrap, Variance
from pipelines.comparison.summary import Summary
from pipelines.storage import reading

SCHEMA_VERSION: Literal[1] = 1
RULES = 3  # by which comparisons are judged; results of 0.1 do not say theirs, which were the first
# The fields of a comparison that follow from the rules, and not from the statistics alone.
JUDGED = frozenset(
    {
        "df",
        "ci95",
        "ci90",
        "p",
        "p_holm",
        "p_margin",
        "mde80",
        "ratio_ci95",
        "verdict",
        "within_margin",
        "reason",
        "flags",
        "planted",
        "shrunken",
        "collapse",
        "unseen",
        "looks",
    }
)
# Fields that are left out of the file where they have their default, mostly None; all others are written.
LEFT_OUT = frozenset(
    {
        "bootstrap",
        "ratio",
        "ratio_ci95",
        "search",
        "settings",
        "without_model",
        "title",
        "time",
        "finished_before",
        "declared",
        "anchor",
        "recipe",
        "ablations",
        "ledger",
        "recorded",
        "optimizer",
        "momentum",
        "warmup_steps",
        "dropout",
        "label_smoothing",
        "class_weights",
        "freeze",
        "p_margin",
        "planted",
        "shrunken",
        "collapse",
        "overturns",
        "fall",
        "looks",
        "unseen",
        "needed",
        "by",
        "groups",
        "p_groups",
        "spread_within",
        "rules",
        "summaries",
        "sources",
    }
)
CHANGED = "changed after registration"  # ends the verdict of a row that rests on such a change
WRITE_AGAIN = "write the file again with attnlab report"
T = TypeVar("T")


def _null_as_nan(stored: object) -> object:
    """Read null as NaN: JSON has no NaN, so an estimate that does not exist is stored as null."""
    if isinstance(stored, Mapping):
        return {name: _null_as_nan(item) for name, item in stored.items()}
    if isinstance(stored, list | tuple):
        return [_null_as_nan(item) for item in stored]
    return math.nan if stored is None else stored


Interval = Annotated[tuple[float, float], BeforeValidator(_null_as_nan)]  # NaN, NaN where nothing was tested
StoredVariance = Annotated[Variance, BeforeValidator(_null_as_nan)]


@dataclass(frozen=True)
class RunPaths:
    """Run folders of the two sides by seed, relative to results.json; None where a run is missing."""

    baseline: tuple[str | None, ...]
    arm: tuple[str | None, ...]


@dataclass(frozen=True)
class SeedLook:
    """What a sequential design saw after some seeds."""

    seeds: int
    difference: float
    interval: Interval  # all intervals of a comparison hold together with 95 %


@dataclass(frozen=True, kw_only=True)
class ComparisonResult:
    """One arm against the baseline by one metric in one cell.

    Differences are positive where the arm is better. Lists by seed have None where a run is missing.
    """

    cell: str
    task: str
    model: str
    split: str | None  # test, or validation where there is no test split
    metric: str
    signature: str | None
    higher_is_better: bool | None
    # log: differences are 100 * log of the ratio of the scores; own: they are in the unit of the score
    scale: Literal["linear", "log", "own"] | None
    primary: bool  # in the Holm family; other comparisons are exploratory
    baseline: str
    arm: str
    n_examples: int | None
    n_clusters: int | None
    n_differing: int | None  # examples that score differently in any seed
    identical_predictions: float | None  # share of predictions equal in both runs of a pair
    seeds: tuple[int, ...]
    baseline_scores: tuple[float | None, ...]
    arm_scores: tuple[float | None, ...]
    difference: float | None  # mean over seeds
    se: float | None
    df: float | None
    ci95: Interval | None
    ci90: Interval | None
    p: float | None  # two-sided, unadjusted
    mde80: float | None  # difference found with power 80 %
    variance: StoredVariance | None
    seed_differences: tuple[float | None, ...] = ()
    ratio: float | None = None  # log scale only: the arm's score over the baseline's
    ratio_ci95: Interval | None = None
    bootstrap: Bootstrap | None = None  # examples resampled, seeds fixed: a check of variance.examples
    p_holm: float | None  # adjusted over the primary comparisons; None where it may claim nothing
    p_margin: tuple[float, float] | None = (
        None  # of being worse, and better, by the margin; adjusted as p_holm
    )
    planted: bool | None = None  # True: the arm is the planted harm of the assay, which claims nothing
    shrunken: float | None = (
        None  # (usually) better and worse: the difference allowing for the winner's curse
    )
    collapse: Collapse | None = None  # seeds of the side that is ahead that fell, and what their rate may be
    unseen: Unseen | None = None  # falls of seeds that none has shown, and what they would undo
    looks: tuple[SeedLook, ...] | None = None  # sequential designs only: the interval after each seed
    margin: float | None
    verdict: str
    within_margin: bool
    reason: str
    flags: tuple[str, ...]
    runs: RunPaths

    @property
    def is_changed(self) -> bool:
        """Whether something that it rests on has changed after the registration."""
        return self.verdict.endswith(CHANGED)

    @property
    def unit(self) -> str:
        """The unit of its differences: points of 100; on a log scale 1 is a ratio of exp(0.01), about 1 %.

        A measure of which less is better has no points: it is its own unit, such as bits per byte.
        """
        if self.scale == "log":
            return "%"
        if self.scale == "own":
            return self.metric
        return "points" if self.higher_is_better is not False else self.metric.replace("_", " ")


@dataclass(frozen=True)
class StartSummary:
    """How far an arm was from stock attention before training: the largest difference over its runs."""

    max_difference: float
    starts_as_stock: bool | None = None
    sites: int | None = None
    sentence: str | None = None


@dataclass(frozen=True)
class TriedSetting:
    """One setting of a search: its learning rate, and what else is searched by name."""

    learning_rate: float
    settings: Mapping[str, object] | None = None


@dataclass(frozen=True)
class SettingSearch:
    """Settings tried on validation data, as many for every arm."""

    tried: tuple[TriedSetting, ...]
    chosen: float  # learning rate
    reason: str
    seeds: tuple[int, ...]
    settings: Mapping[str, object] | None = None  # the chosen ones of what else is searched


@dataclass(frozen=True)
class ArmSummary:
    """What an arm costs in a cell and how it started, over its finished runs."""

    num_runs: int
    num_parameters: int | None = None
    num_variant_parameters: int | None = None
    forward_flops: int | None = None  # of the matrix products in one forward of four training features
    train_seconds: float | None = None  # mean over runs
    train_cpu_seconds: float | None = None  # mean over runs, of one process
    total_seconds: float | None = None
    peak_memory_bytes: float | None = None  # most over runs
    num_steps: tuple[int | None, ...] = ()
    best_step: tuple[int | None, ...] = ()
    proof: StartSummary | None = None
    search: SettingSearch | None = None
    without_model: str | None = None  # which runs are no better than what needs no model


@dataclass(frozen=True)
class Failure:
    """A run that failed, diverged or never ran."""

    cell: str
    arm: str
    seed: int
    run: str
    status: str
    step: int | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Registration:
    """What was declared before the first run, and what has changed since."""

    hash: str
    time: str | None = None
    finished_before: Mapping[str, int] | None = None  # arm -> runs that were finished by then
    changed_afterwards: tuple[str, ...] = ()
    declared: Mapping[str, object] | None = None
    anchor: Mapping[str, str] | None = None  # where it was put outside of the folder, since 0.2
    ablations: Mapping[str, Mapping[str, object]] | None = None  # of several reported together


@dataclass(frozen=True)
class ReadLook:
    """One look at a primary comparison on a test set, and its reading by e-LOND after all looks before it."""

    test: str  # hash of the examples
    time: str
    ablation: str  # beginning of the seal of its registration
    cell: str | None  # of this report; None: of another ablation
    arm: str | None
    metric: str | None
    p: float | None
    finished: int  # runs that had ended
    planned: int
    e: float | None = None
    needed: float | None = None
    claimed: bool | None = None
    recorded: bool = True  # in the ledger; False: whoever looked may not write there


@dataclass(frozen=True)
class Ledger:
    """The looks that the test sets of a report have had."""

    heads: Mapping[str, str]  # ablation -> hash of the last line of its ledger when the report was written
    tests: Mapping[str, str]  # cell -> hash of the examples
    looks: tuple[ReadLook, ...]


@dataclass(frozen=True)
class SourceFile:
    """A file of predictions or scores that was compared after the fact."""

    file: str
    sha256: str
    layout: str  # what it was read as


@dataclass(frozen=True)
class Results:
    """Everything a report needs beside the run folders."""

    schema_version: Literal[1]
    hash: str  # sha256 of the ablation
    registration: Registration | None
    environment: Mapping[str, object]  # what all runs share; a field that differs lists its values
    comparisons: tuple[ComparisonResult, ...]
    arms: Mapping[str, Mapping[str, ArmSummary]]  # cell -> arm -> summary
    failures: tuple[Failure, ...]
    publish_text: Mapping[str, bool] | None = None  # cell -> whether the texts of its data may be shown
    recipe: Mapping[str, CellRecipe] | None = None  # of each cell; files of 0.1 have none
    title: str | None = None
    ledger: Ledger | None = None  # since 0.2
    summaries: tuple[Summary, ...] | None = None  # of each arm over its cells, in margins
    sources: Mapping[str, tuple[SourceFile, ...]] | None = None  # arm -> files: a comparison after the fact
    rules: int | None = None  # by which the comparisons were judged; files of 0.1 do not say


def to_json(results: Results | CellRecipe) -> dict[str, Any]:
    """Return plain JSON values: tuples become lists, and numbers that are not finite become null."""
    content: dict[str, Any] = _plain(results)
    return content


def _plain(value: object) -> Any:
    if isinstance(value, ArmSummary) and value.num_runs == 0:
        return {"num_runs": 0}
    if is_dataclass(value):
        named = {field: getattr(value, field.name) for field in fields(value)}
        return {
            field.name: _plain(item)
            for field, item in named.items()
            if item != field.default or field.name not in LEFT_OUT
        }
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def from_json(kind: type[T], stored: Mapping[str, object], where: str, remedy: str = WRITE_AGAIN) -> T:
    """Return `stored` as a dataclass of this module, with every field checked (`reading.checked`)."""
    return reading.checked(kind, stored, where, remedy)
