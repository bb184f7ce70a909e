"""Examples per CPU second in evaluation that writes texts: attnlab, scored, against Trainer, not scored."""

from __future__ import annotations

from scripts.benchmarks.cases import cases
from scripts.benchmarks.eval import measured
from scripts.benchmarks.table import Table


def run() -> Table:
    return measured(case for case in cases() if case.evaluation_target is not None)
