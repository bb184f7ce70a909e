"""The cost of attention diagnostics in training: one look, over the steps from one look to the next."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from pipelines.train.loop import Training
from scripts.benchmarks import ours
from scripts.benchmarks.cases import Case, cases, watched
from scripts.benchmarks.table import Table, with_range

TURNS = 3
TARGET = 0.02


def run() -> Table:
    records = [_measured(case) for case in watched(cases())]
    rows = [
        (
            record["case"],
            with_range(record["step"]),
            with_range(record["look"]),
            f"{100 * record['share']:.2f} %",
            f"≤ {100 * TARGET:g} % {'met' if record['share'] <= TARGET else 'MISSED'}",
        )
        for record in records
    ]
    columns = ("what", "CPU seconds of a step", "of a look", "a look every 100 steps", "target")
    return Table(columns, rows, records, all_met=all(record["share"] <= TARGET for record in records))


def _measured(case: Case) -> dict:
    """Time steps and looks of one run in turns, after one of each."""
    with tempfile.TemporaryDirectory() as folder:
        training = ours.build(case, Path(folder))
        ours.take_steps(training, 0, 1)
        _look(training)
        steps, looks = [], []
        for turn in range(TURNS):
            steps.append(ours.take_steps(training, 1 + turn, 1)[1])
            looks.append(_look(training))
    every = training.config.diagnostics_every_steps
    assert every is not None
    share = statistics.median(looks) / (every * statistics.median(steps))
    return {"case": case.name, "step": steps, "look": looks, "every": every, "share": share}


def _look(training: Training) -> float:
    begun = time.process_time()
    training.attention_log.diagnose(training.accelerator, training.model)
    return time.process_time() - begun
