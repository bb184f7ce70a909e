"""Examples per CPU second in evaluation without generation: attnlab, scored, against Trainer, not scored."""

from __future__ import annotations

from collections.abc import Iterable

from scripts.benchmarks import ours, reference
from scripts.benchmarks.cases import Case, cases, watched
from scripts.benchmarks.table import Comparison, Table, compared
from scripts.benchmarks.turns import take_turns

TURNS = 3


def run() -> Table:
    return measured(case for case in cases() if case.evaluation_target is None)


def measured(cases: Iterable[Case]) -> Table:
    """Evaluate the validation split of each case, in turns."""
    found = []
    for case in watched(cases):
        times = take_turns(case, ours.evaluation, reference.evaluation, TURNS)
        unit = "examples per CPU second"
        found.append(Comparison(case.name, unit, times.ours, times.reference, case.evaluation_target))
    return compared(found)
