"""Useful tokens per CPU second in training: attnlab's loop and transformers' Trainer, in turns."""

from __future__ import annotations

from benchmarks import ours, reference
from benchmarks.cases import cases, watched
from benchmarks.table import Comparison, Table, compared
from benchmarks.turns import take_turns

TURNS = 5


def run() -> Table:
    found = []
    for case in watched(cases()):
        measured = take_turns(case, ours.training, reference.training, TURNS)
        unit = "useful tokens per CPU second"
        found.append(Comparison(case.name, unit, measured.ours, measured.reference, case.training_target))
    return compared(found)
