"""What the commands answer to programs with `--json`: one object, of these types.

They are the source of `config/schema/answer.schema.json` and of the tables in docs/json.md:
`python -m pipelines.actions.answers.json_schema` writes both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from pipelines.comparison.expectation import Expected, Outcome
from pipelines.report.recipe import Kind

Number = float | None


def _about(text: str) -> Any:
    return Field(description=text)


@dataclass(frozen=True, kw_only=True)
class LedgerReading:
    """What the ledger says of a comparison at its last look: false claims at most 5 % over all looks."""

    looks: Annotated[int, _about("primary looks that its test set has had")]
    e: Annotated[Number, _about("e-value of the last look")]
    needed: Annotated[Number, _about("e-value from which it is claimed")]
    claimed: Annotated[bool, _about("whether a difference is claimed over all looks")]


@dataclass(frozen=True, kw_only=True)
class JudgedArm:
    """One arm against the baseline by the primary metric of one cell."""

    cell: Annotated[str, _about("task and model")]
    arm: Annotated[str, _about("arm or side")]
    baseline: Annotated[str, _about("what it is compared with")]
    metric: Annotated[str, _about("primary metric")]
    unit: Annotated[str, _about("unit of the differences")]
    seeds: Annotated[list[int], _about("seeds of the pairs")]
    examples: Annotated[int | None, _about("examples of a run")]
    baseline_mean: Annotated[Number, _about("mean score of the baseline")]
    arm_mean: Annotated[Number, _about("mean score of the arm")]
    difference: Annotated[Number, _about("positive where the arm is better")]
    ci95: Annotated[list[Number] | None, _about("95 % interval of the difference")]
    p: Annotated[Number, _about("two-sided, unadjusted")]
    p_holm: Annotated[Number, _about("adjusted over the primary comparisons")]
    margin: Annotated[Number, _about("declared: the largest difference that does not matter")]
    verdict: Annotated[str, _about("the verdict in full")]
    word: Annotated[str, _about("its first word: better, worse, equivalent, ...")]
    within_margin: Annotated[bool, _about("whether the difference is smaller than the margin")]
    changed: Annotated[bool, _about("whether it rests on something changed after the registration")]
    reason: Annotated[str, _about("why")]
    note: Annotated[str, _about("what would settle it; empty where nothing is open")]
    flags: Annotated[list[str], _about("reasons to read it with care")]
    outcome: Annotated[Outcome | None, _about("of --expect; null without it")]
    ledger: Annotated[LedgerReading | None, _about("null where it has no p value")]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What `ablate`, `report` and `compare` answer."""

    folder: Annotated[str, _about("folder of the report")]
    kind: Annotated[Kind, _about("what the arms differ in")]
    results: Annotated[str, _about("file with every number (results.schema.json)")]
    report: Annotated[str, _about("page for people")]
    headline: Annotated[str, _about("the finding in one sentence")]
    expect: Annotated[Expected | None, _about("what --expect asked for")]
    outcome: Annotated[Outcome | None, _about("all comparisons together; null without --expect")]
    comparisons: Annotated[list[JudgedArm], _about("the primary comparisons")]
    failures: Annotated[list[str], _about("runs that failed, diverged or never ran")]
    alerts: Annotated[list[str], _about("what to read with care")]


@dataclass(frozen=True, kw_only=True)
class StatusOfRun:
    """One run of an ablation."""

    cell: str
    arm: str
    seed: int
    folder: Annotated[str, _about("run folder")]
    state: Annotated[
        Literal["finished", "diverged", "failed", "interrupted", "running", "queued", "stopped", "waiting"],
        _about("stopped: it can be resumed; waiting: it has not started"),
    ]
    step: int | None
    num_steps: int | None
    loss: Number
    score: Annotated[Number, _about("primary metric")]
    seconds_left: Annotated[Number, _about("null: not known")]
    reason: Annotated[str, _about("why it failed or diverged")]


@dataclass(frozen=True, kw_only=True)
class UnusedRun:
    """A run folder that no ablation names."""

    folder: str
    num_bytes: int
    deleted: bool
    kept_because: Annotated[str | None, _about("why it was not deleted")]


@dataclass(frozen=True, kw_only=True)
class Status:
    """What `status` answers."""

    folder: str
    runs: Annotated[list[StatusOfRun], _about("every run of the search and the grid")]
    counts: Annotated[dict[str, int], _about("state -> runs")]
    over: Annotated[bool, _about("whether every run has ended")]
    looks: Annotated[list[str], _about("intervals of a sequential ablation so far, as text")]
    not_as_planned: Annotated[list[str], _about("runs that are not what the grid says")]
    cancelled: Annotated[bool, _about("whether the ablation is cancelled")]
    unused: Annotated[list[UnusedRun] | None, _about("with --unused; else null")]


@dataclass(frozen=True, kw_only=True)
class Planned:
    """The sample size of one arm in one cell."""

    cell: str
    arm: str
    metric: str
    margin: Annotated[Number, _about("the difference to be detected; null: none is declared")]
    pilot_seeds: int
    seeds: Annotated[int, _about("of the planned ablation")]
    clusters: Annotated[int, _about("clusters of examples")]
    detectable: Annotated[Number, _about("difference found with a power of 80 % by these seeds")]
    floor: Annotated[Number, _about("what no number of seeds finds")]
    power: Annotated[Number, _about("power for the margin, 0 to 1")]
    seeds_needed: Annotated[int | None, _about("for a power of 80 %; null: no number suffices")]
    seeds_needed_cautious: Annotated[int | None, _about("if the pilot underestimates the variance")]
    clusters_needed: Annotated[int | None, _about("with these seeds; null: no number suffices")]
    pair_seconds: Annotated[Number, _about("time of one more seed")]


@dataclass(frozen=True, kw_only=True)
class SampleSizes:
    """What `plan` answers."""

    pilot: Annotated[str, _about("folder of the pilot")]
    level: Annotated[float, _about("two-sided level of one comparison")]
    notes: Annotated[list[str], _about("settings in which the pilot differs")]
    plans: list[Planned]


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What `verify` answers."""

    folder: str
    intact: Annotated[bool, _about("whether nothing differs")]
    differences: Annotated[list[str], _about("each as a sentence")]


@dataclass(frozen=True, kw_only=True)
class CommandAnswer:
    """The object on stdout."""

    attnlab: Annotated[str, _about("version")]
    command: Annotated[str | None, _about("null where the command line could not be read")]
    status: Annotated[int, _about("exit status")]
    errors: Annotated[list[str], _about("one sentence each; empty where the command succeeded")]
    result: Annotated[
        Judged | Status | SampleSizes | Verified | None, _about("of the command; null where there is none")
    ]


def plain(value: Any) -> Any:
    """Return plain JSON values; a number that is not finite is null."""
    if is_dataclass(value):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
