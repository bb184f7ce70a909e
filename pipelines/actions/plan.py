"""`attnlab plan`: estimate the seeds and examples that an ablation needs, from the noise of finished runs.

The effect in these runs is never used: choosing a sample size by it would bias the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipelines.ablation import sides
from pipelines.ablation.cost import costs, duration
from pipelines.ablation.folder import StoredAblation, open_ablation
from pipelines.actions.answers import Planned, SampleSizes
from pipelines.comparison import power
from pipelines.comparison.pairing import check_pair
from pipelines.comparison.scored_cell import ScoredCell
from pipelines.comparison.significance import LEVEL
from pipelines.config.load import RUN_EXECUTION_KEYS, AblationConfig
from pipelines.errors import UserError
from pipelines.runs import identity
from pipelines.shown import printable

MIN_PILOT_SEEDS = 2


@dataclass(frozen=True)
class SampleSizePlan:
    """The noise of one arm in one cell, as a pilot shows it, and what follows for the sample size.

    Attributes:
        margin: the difference to be detected, in the unit of the metric; None if none is declared.
        num_seeds: seeds of the planned ablation.
        unit: what a cluster is: examples, or clusters of examples.
        level: two-sided, the strictest that Holm's adjustment may use for this family.
        pair_seconds: time of one more seed: a run of the baseline and one of the arm.
    """

    cell: str
    arm: str
    metric: str
    margin: float | None
    parts: power.Components
    num_pilot_seeds: int
    num_seeds: int
    num_clusters: int
    unit: str
    level: float
    pair_seconds: float | None

    def seeds_needed(self, margin: float) -> int | None:
        return power.seeds_needed(self.parts, margin, self.num_clusters, self.level)

    def cautious_seeds_needed(self, margin: float) -> int | None:
        """Return the same for the upper bound of the seeds' variance, which few pilot seeds show badly."""
        cautious = self.parts.cautious(self.num_pilot_seeds)
        return power.seeds_needed(cautious, margin, self.num_clusters, self.level)

    def clusters_needed(self, margin: float) -> int | None:
        return power.clusters_needed(self.parts, margin, self.num_seeds, self.level)

    def power(self, margin: float) -> float:
        return power.power(self.parts, margin, self.num_seeds, self.num_clusters, self.level)

    @cached_property
    def detectable(self) -> float:
        return power.detectable(self.parts, self.num_seeds, self.num_clusters, self.level)

    @cached_property
    def floor(self) -> float:
        return power.floor_of_seeds(self.parts, self.num_clusters, self.level)


def plan_command(config: AblationConfig, pilot: str) -> SampleSizes:
    """Print the sample size that every cell and arm needs, and return it.

    Args:
        pilot: folder of an ablation with finished runs.

    Raises:
        UserError: no cell and arm has two finished seeds in the pilot, beside those of the baseline.
    """
    stored = open_ablation(Path(pilot))
    sides.require(Path(pilot), stored.cells)
    plans = list(make_plans(config, stored))
    if not plans:
        raise UserError(
            pilot,
            f"has no cell and arm of this ablation with {MIN_PILOT_SEEDS} finished seeds beside the baseline",
            accepted="make a pilot first, such as: attnlab ablate FILE seeds=[1,2] --out runs/pilot",
        )
    notes = list(differences(config, stored))
    for note in notes:
        print(printable(f"note: {note}"))
    for plan in plans:
        print(printable("\n  ".join(sentences(plan))))
    level = f"{100 * plans[0].level:.2g} %: {100 * LEVEL:g} % divided by the number of primary comparisons"
    used = "Only the noise of the pilot was used, not its effect."
    print(printable(f"{used} The test is the two-way test at {level}."))
    answers = [_answer(plan) for plan in plans]
    return SampleSizes(pilot=pilot, level=plans[0].level, notes=notes, plans=answers)


def _answer(plan: SampleSizePlan) -> Planned:
    margin, varies = plan.margin, plan.parts.variance(plan.num_seeds, plan.num_clusters) > 0
    known = margin if varies else None
    return Planned(
        cell=plan.cell,
        arm=plan.arm,
        metric=plan.metric,
        margin=margin,
        pilot_seeds=plan.num_pilot_seeds,
        seeds=plan.num_seeds,
        clusters=plan.num_clusters,
        detectable=plan.detectable if varies else None,
        floor=plan.floor if varies else None,
        power=None if known is None else plan.power(known),
        seeds_needed=None if known is None else plan.seeds_needed(known),
        seeds_needed_cautious=None if known is None else plan.cautious_seeds_needed(known),
        clusters_needed=None if known is None else plan.clusters_needed(known),
        pair_seconds=plan.pair_seconds,
    )


def make_plans(config: AblationConfig, pilot: StoredAblation) -> Iterator[SampleSizePlan]:
    """Yield a plan for each cell and arm that has enough finished pairs in the pilot."""
    finished = {
        (cell.cell, cell.arm, cell.seed): cell.folder
        for cell, outcome in pilot.outcomes().items()
        if outcome.status == "finished" and cell.cell in config.cells
    }
    seconds = {(one.cell, one.arm): cost.seconds for one, cost in costs(pilot.cells).items()}
    ablation = config.to_dict() | {"seeds": list(pilot.config.seeds)}
    for name in config.cells:
        if not any(cell == name for cell, _, _ in finished):
            continue
        cell = ScoredCell.load(name, ablation, finished)
        for arm in config.arms:
            pairs = cell.pairs(arm) if arm != config.baseline else {}
            if len(pairs) >= MIN_PILOT_SEEDS:
                known = [seconds[name, one] for one in (config.baseline, arm) if (name, one) in seconds]
                yield _plan(config, cell, arm, sum(known) if len(known) == 2 else None)


def _plan(config: AblationConfig, cell: ScoredCell, arm: str, pair_seconds: float | None) -> SampleSizePlan:
    pairs = cell.pairs(arm)
    for baseline, other in pairs.values():
        check_pair(baseline, other)
    assert cell.primary is not None  # its runs have finished, so they have a metric
    result = cell.two_way(cell.primary, pairs)
    if not math.isfinite(result.variance.total):
        where, what = f"{cell.name} / {arm}", f"the pilot does not show its noise: {result.problem}"
        raise UserError(where, what, accepted="make a pilot on more data, or leave the cell out")
    return SampleSizePlan(
        cell=cell.name,
        arm=arm,
        metric=cell.primary,
        margin=config.margin.get(cell.primary),
        parts=power.components(result.variance, result.num_seeds, result.num_clusters),
        num_pilot_seeds=result.num_seeds,
        num_seeds=len(config.seeds),
        num_clusters=result.num_clusters,
        unit=f"{cell.split} examples" if result.num_clusters == result.num_examples else "clusters",
        level=LEVEL / family(config),
        pair_seconds=pair_seconds,
    )


def family(config: AblationConfig) -> int:
    """Return the number of primary comparisons, which Holm adjusts together."""
    return max(1, len(config.cells) * len(config.compared))


def differences(config: AblationConfig, pilot: StoredAblation) -> Iterator[str]:
    """Yield, for every cell, the settings in which the pilot differs from the ablation."""
    for name, cell in config.cells.items():
        if name in pilot.config.cells:
            before, now = (_settings(one.to_dict()) for one in (pilot.config.cells[name], cell))
            changes = identity.differences(before, now)
            if changes:
                yield f"the pilot's {name} has other settings: {'; '.join(changes)}"


def _settings(run: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in run.items() if key not in RUN_EXECUTION_KEYS}


def sentences(plan: SampleSizePlan) -> Iterator[str]:
    """Describe a plan in a few lines; the first names its cell and arm."""
    yield (
        f"{plan.cell} / {plan.arm}: {plan.metric}, from {plan.num_pilot_seeds} pilot seeds "
        f"on {plan.num_clusters:,} {plan.unit}"
    )
    parts = plan.parts
    shares = [parts.seeds / plan.num_seeds, parts.examples / plan.num_clusters]
    total = parts.variance(plan.num_seeds, plan.num_clusters)
    if total == 0:
        yield "the runs of the pilot do not differ, so they show no noise to plan by"
        return
    seeds, examples = (100 * share / total for share in shares)
    yield (
        f"with {plan.num_seeds} seeds, as in the file, a difference of {plan.detectable:.2g} is found with a "
        f"power of 80 %; variance by seeds {seeds:.0f} %, by examples {examples:.0f} %, by their interaction "
        f"{max(0.0, 100 - seeds - examples):.0f} %"
    )
    if plan.margin is None:
        yield f"no margin for {plan.metric} is declared, so no sample size can be computed"
    else:
        yield from _for_margin(plan, plan.margin)
    yield f"no number of seeds finds less than {plan.floor:.2g} with a power of 80 % on these {plan.unit}"


def _for_margin(plan: SampleSizePlan, margin: float) -> Iterator[str]:
    yield f"a difference of the margin, {margin:g}, is found with a power of {100 * plan.power(margin):.0f} %"
    needed, cautious = plan.seeds_needed(margin), plan.cautious_seeds_needed(margin)
    if needed is None:
        yield "more seeds alone cannot raise that to 80 %: more examples are needed"
    else:
        more, cost = needed - plan.num_seeds, ""
        if more > 0 and plan.pair_seconds is not None:
            cost = f"; {more} more take about {duration(more * plan.pair_seconds)} of one process"
        yield (
            f"a power of 80 % takes {needed} seeds; {cautious or 'no number suffices'} if the pilot "
            f"underestimates the variance (its upper 80 % bound){cost}"
        )
    clusters = plan.clusters_needed(margin)
    if clusters is None:
        yield f"no number of {plan.unit} suffices with {plan.num_seeds} seeds: more seeds are needed"
    elif clusters > plan.num_clusters:
        yield f"or {clusters:,} {plan.unit} with {plan.num_seeds} seeds"
