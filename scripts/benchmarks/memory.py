"""Peak memory of a process that trains for a few steps: attnlab and transformers' Trainer."""

from __future__ import annotations

from scripts.benchmarks import ours, reference
from scripts.benchmarks.cases import cases, watched
from scripts.benchmarks.table import Comparison, Table, compared
from scripts.benchmarks.turns import take_turns

TURNS = 2
GIBIBYTE = 1 << 30


def run() -> Table:
    found = []
    for case in watched(case for case in cases() if case.memory_target):
        measured = take_turns(case, ours.training, reference.training, TURNS)
        peaks = [measured.peak_ours / GIBIBYTE], [measured.peak_reference / GIBIBYTE]
        found.append(Comparison(case.name, "GiB at most", *peaks, case.memory_target, at_least=False))
    return compared(found)
