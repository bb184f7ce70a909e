"""Measure the cells and the quirks of the zoo, each in a folder of its own."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import warnings
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path

import torch
import transformers

from tests.zoo.cells import Outcome, compare, measure
from tests.zoo.families import CELLS, FAMILIES, NEEDS_SENTENCEPIECE
from tests.zoo.quirks import QUIRKS

NOT_RUN = Outcome("not run", "sentencepiece is not installed")


def cells(families: Collection[str] = ()) -> Mapping[tuple[str, str], Outcome]:
    """Return the outcome of each family and task; `families`: of these only."""
    _quiet()
    chosen = [cell for cell in CELLS if not families or cell[0] in families]
    return {cell: _cell(*cell) for cell in chosen}


def _cell(family: str, task: str) -> Outcome:
    if family in NEEDS_SENTENCEPIECE and importlib.util.find_spec("sentencepiece") is None:
        return NOT_RUN
    return _in_a_folder(f"{family} {task}", lambda folder: measure(family, task, folder))


def quirks() -> Mapping[str, Outcome]:
    """Return the outcome of each unusual checkpoint."""
    _quiet()
    return {name: _in_a_folder(name, partial(_quirk, name)) for name in QUIRKS}


def _quirk(name: str, folder: Path) -> Outcome:
    quirk = QUIRKS[name]
    checkpoint = quirk.save(folder / "checkpoint")
    return compare(FAMILIES[quirk.family], quirk.task, checkpoint, folder, quirk.options)


def _in_a_folder(name: str, run: Callable[[Path], Outcome]) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(Path(folder))
        print(f"{name}: {outcome.word}", file=sys.stderr)
        return Outcome(outcome.word, outcome.why.replace(f"{folder}/", ""))


def _quiet() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.utils.logging.disable_progress_bar()
