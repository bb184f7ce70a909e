"""Useful tokens per CPU second in training: attnlab's loop and transformers' Trainer, in turns."""

from __future__ import annotations

from scripts.benchmarks import ours, reference
from scripts.benchmarks.cases import cases, watched
from scripts.benchmarks.table import Comparison, Table, compared
from scripts.benchmarks.turns import take_turns

TURNS = 5


def run() -> Table:
    found = []
    for case in watched(cases()):
        measured = take_turns(case, ours.training, reference.training, TURNS)
        unit = "useful tokens per CPU second"
        found.append(Comparison(case.name, unit, measured.ours, measured.reference, case.training_target))
    return compared(found)
