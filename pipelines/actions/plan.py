"""How many seeds and examples an ablation needs, judged by the noise (not the effect) of finished runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipelines.ablation.cost import costs, duration
from pipelines.ablation.folder import StoredAblation, open_ablation
from pipelines.comparison import power
from pipelines.comparison.pairing import check_pair
from pipelines.comparison.scored_cell import ScoredCell
from pipelines.comparison.significance import LEVEL
from pipelines.config.load import RUN_EXECUTION_KEYS, AblationConfig
from pipelines.errors import UserError
from pipelines.runs import identity

MIN_PILOT_SEEDS = 2


@dataclass(frozen=True)
class SampleSizePlan:
    """What a pilot says about one arm in one cell."""

    cell: str
    arm: str
    metric: str
    margin: float | None  # what is to be found, in the difference's unit
    parts: power.Components
    num_pilot_seeds: int
    num_seeds: int  # as the ablation plans
    num_clusters: int
    unit: str  # what a cluster is: examples, or clusters of examples
    level: float  # two-sided, the strictest that Holm may ask of this family
    pair_seconds: float | None  # a further seed: one run of the baseline and one of the arm

    @cached_property
    def seeds_needed(self) -> int | None:
        return power.seeds_needed(self.parts, self.margin, self.num_clusters, self.level)

    @cached_property
    def cautious_seeds_needed(self) -> int | None:
        """The same if the seeds' spread is larger than so few pilot seeds show."""
        cautious = self.parts.cautious(self.num_pilot_seeds)
        return power.seeds_needed(cautious, self.margin, self.num_clusters, self.level)

    @cached_property
    def clusters_needed(self) -> int | None:
        return power.clusters_needed(self.parts, self.margin, self.num_seeds, self.level)

    @cached_property
    def detectable(self) -> float:
        return power.detectable(self.parts, self.num_seeds, self.num_clusters, self.level)

    @cached_property
    def floor(self) -> float:
        return power.floor_of_seeds(self.parts, self.num_clusters, self.level)

    @property
    def power(self) -> float:
        return power.power(self.parts, self.margin, self.num_seeds, self.num_clusters, self.level)


def plan_command(config: AblationConfig, pilot: str) -> None:
    """`attnlab plan`: print, for every cell and arm, what its pilot says.

    Raises:
        UserError: no cell and arm has two finished seeds of both sides in the pilot.
    """
    stored = open_ablation(Path(pilot))
    plans = list(make_plans(config, stored))
    if not plans:
        raise UserError(
            pilot,
            f"has no cell and arm of this ablation with {MIN_PILOT_SEEDS} finished seeds beside the baseline",
            accepted="make a pilot first, such as: attnlab ablate FILE seeds=[1,2] --out runs/pilot",
        )
    for note in differences(config, stored):
        print(f"note: {note}")
    for plan in plans:
        print("\n  ".join(sentences(plan)))
    print(
        "Only the noise of the pilot was looked at, not its effect. The test is the two-way t at "
        f"{100 * plans[0].level:.2g} %: {100 * LEVEL:g} % shared out over the primary comparisons."
    )


def make_plans(config: AblationConfig, pilot: StoredAblation) -> Iterator[SampleSizePlan]:
    """A plan for each cell and arm of the ablation that the pilot has enough finished pairs of."""
    finished = {
        (cell.cell, cell.arm, cell.seed): cell.folder
        for cell, outcome in pilot.outcomes().items()
        if outcome.status == "finished" and cell.cell in config.cells
    }
    seconds = {(one.cell, one.arm): cost.seconds for one, cost in costs(pilot.cells).items()}
    asked = config.to_dict() | {"seeds": list(pilot.config.seeds)}
    for name in config.cells:
        if not any(cell == name for cell, _, _ in finished):
            continue
        cell = ScoredCell.load(name, asked, finished)
        for arm in config.arms:
            pairs = cell.pairs(arm) if arm != config.baseline else {}
            if len(pairs) >= MIN_PILOT_SEEDS:
                both = [seconds.get((name, one)) for one in (config.baseline, arm)]
                yield _plan(config, cell, arm, None if None in both else sum(both))


def _plan(config: AblationConfig, cell: ScoredCell, arm: str, pair_seconds: float | None) -> SampleSizePlan:
    pairs = cell.pairs(arm)
    for baseline, other in pairs.values():
        check_pair(baseline, other)
    result = cell.two_way(cell.primary, pairs)
    if not math.isfinite(result.variance.total):
        where, what = f"{cell.name} / {arm}", f"the pilot says nothing of its noise: {result.problem}"
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
    """Number of primary comparisons, which Holm adjusts together."""
    return max(1, len(config.cells) * (len(config.arms) - 1))


def differences(config: AblationConfig, pilot: StoredAblation) -> Iterator[str]:
    """Settings in which the pilot's cells are not those of the ablation, once per cell and setting."""
    for name, cell in config.cells.items():
        if name in pilot.config.cells:
            before, now = (_settings(one.to_dict()) for one in (pilot.config.cells[name], cell))
            changes = identity.differences(before, now)
            if changes:
                yield f"the pilot's {name} is another: {'; '.join(changes)}"


def _settings(run: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in run.items() if key not in RUN_EXECUTION_KEYS}


def sentences(plan: SampleSizePlan) -> Iterator[str]:
    """A plan in a few lines, the first its name."""
    yield (
        f"{plan.cell} / {plan.arm}: {plan.metric}, from {plan.num_pilot_seeds} pilot seeds "
        f"on {plan.num_clusters:,} {plan.unit}"
    )
    parts = plan.parts
    shares = [parts.seeds / plan.num_seeds, parts.examples / plan.num_clusters]
    total = parts.variance(plan.num_seeds, plan.num_clusters)
    if total == 0:
        yield "the runs of the pilot do not differ, so there is nothing to plan by"
        return
    seeds, examples = (100 * share / total for share in shares)
    yield (
        f"with {plan.num_seeds} seeds, as the file says, {plan.detectable:.2g} is found four times in five; "
        f"of its variance seeds make {seeds:.0f} %, examples {examples:.0f} %, both at once "
        f"{max(0.0, 100 - seeds - examples):.0f} %"
    )
    if plan.margin is None:
        yield f"no margin for {plan.metric} is declared, so there is nothing to size the ablation for"
    else:
        yield from _for_margin(plan)
    yield f"no number of seeds finds less than {plan.floor:.2g} four times in five on these {plan.unit}"


def _for_margin(plan: SampleSizePlan) -> Iterator[str]:
    yield f"a difference of the margin, {plan.margin:g}, is found {100 * plan.power:.0f} times in 100"
    needed, cautious = plan.seeds_needed, plan.cautious_seeds_needed
    if needed is None:
        yield "more seeds alone cannot lift that to 80: it takes more examples"
    else:
        further = needed - plan.num_seeds
        cost = f"; {further} more take about {duration(further * plan.pair_seconds)} of one process" * (
            further > 0 and plan.pair_seconds is not None
        )
        safe = f"{cautious}" if cautious else "no number"
        yield f"80 in 100 take {needed} seeds ({safe} if the pilot was lucky: its upper 80 % bound){cost}"
    if plan.clusters_needed is None:
        yield f"no number of {plan.unit} does it with {plan.num_seeds} seeds: it takes more seeds"
    elif plan.clusters_needed > plan.num_clusters:
        yield f"or {plan.clusters_needed:,} {plan.unit} with {plan.num_seeds} seeds"
