"""Peak memory of a process that trains for a few steps: attnlab and transformers' Trainer."""

from __future__ import annotations

from scripts.benchmarks import cases as jobs
from scripts.benchmarks import ours, reference
from scripts.benchmarks.cases import cases, watched
from scripts.benchmarks.table import Comparison, Table, compared
from scripts.benchmarks.turns import peak_alone, take_turns

TURNS = 2
GIBIBYTE = 1 << 30
BUDGET = 2.0  # GiB, of a small model on inputs of 10,000 tokens


def run() -> Table:
    found = []
    for case in watched(case for case in cases() if case.memory_target):
        measured = take_turns(case, ours.training, reference.training, TURNS)
        peaks = [measured.peak_ours / GIBIBYTE], [measured.peak_reference / GIBIBYTE]
        found.append(Comparison(case.name, "GiB at most", *peaks, case.memory_target, at_least=False))
    for case in watched(case for case in [jobs.long_input()] if jobs.chosen in case.name):
        peak = peak_alone(case, ours.training, turns=1) / GIBIBYTE
        found.append(Comparison(case.name, "GiB at most, of 2", [peak], [BUDGET], 1.0, at_least=False))
    return compared(found)
