"""Which examples make the difference: by length, and the best and worst ones with both predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import UserError
from pipelines.report.data import ReportData, Row
from pipelines.storage.names import PREDICTIONS

if TYPE_CHECKING:
    import numpy as np

    from pipelines.comparison.scored_run import ScoredRun

BINS = 4
SHOWN = 5  # best and worst examples of a comparison


@dataclass(frozen=True)
class LengthBin:
    """Examples of similar length, and the difference over them for every seed."""

    shortest: int
    longest: int
    num_examples: int
    differences: tuple[float, ...]


@dataclass(frozen=True)
class Example:
    """One example, what it moves the mean difference by, and what both arms said with one seed."""

    id: str
    influence: float
    seed: int
    shown: Any
    reference: Any
    baseline: Any
    arm: Any


@dataclass(frozen=True)
class Breakdown:
    """A comparison seen example by example; best first and worst first."""

    row: Row
    bins: tuple[LengthBin, ...]
    best: tuple[Example, ...]
    worst: tuple[Example, ...]

    def without_texts(self) -> Breakdown | None:
        """The same with labels alone; None where what the arms said is itself text."""
        if not all(isinstance(one.baseline, list) for one in (*self.best, *self.worst)):
            return None
        best, worst = (tuple(replace(one, shown=None) for one in side) for side in (self.best, self.worst))
        return replace(self, best=best, worst=worst)


class Reader:
    """Statistics and predictions of runs, each read once."""

    def __init__(self) -> None:
        self._runs: dict[Path, ScoredRun | None] = {}
        self._predictions: dict[Path, list[dict[str, Any]]] = {}

    def run(self, folder: Path, label: str, split: str) -> ScoredRun | None:
        """None where the folder is not here, or no longer what the results were made of."""
        from pipelines.comparison import scored_run  # numpy and pyarrow: only where there are run folders

        if folder not in self._runs:
            try:
                self._runs[folder] = scored_run.read(folder, label, split)
            except (OSError, UserError):
                self._runs[folder] = None
        return self._runs[folder]

    def predictions(self, run: ScoredRun) -> list[dict[str, Any]]:
        if run.folder not in self._predictions:
            path = run.folder / PREDICTIONS.format(run.split)
            lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
            self._predictions[run.folder] = [json.loads(line) for line in lines if line]
        return self._predictions[run.folder]


def breakdown(facts: ReportData, row: Row, reader: Reader) -> Breakdown | None:
    """The examples behind a row; None without its run folders."""
    pairs = _pairs(row, reader)
    if not pairs:
        return None
    from pipelines.metrics.base import comparable

    first = next(iter(pairs.values()))[0]
    value = comparable(first.metrics[row.metric])
    sides = [[pair[side].statistics[row.metric] for pair in pairs.values()] for side in (0, 1)]
    influences = _influences(*sides, value)
    said = {seed: [reader.predictions(run) for run in pair] for seed, pair in pairs.items()}
    complete = all(len(lines) == influences.shape[1] for pair in said.values() for lines in pair)
    lengths = [_length(line) for line in next(iter(said.values()))[0]] if complete else []
    order = influences.mean(axis=0).argsort(kind="stable").tolist() if complete else []
    examples = {place: _example(place, influences, said) for place in {*order[:SHOWN], *order[-SHOWN:]}}
    return Breakdown(
        row,
        tuple(_bins(lengths, sides, value)),
        tuple(examples[place] for place in order[::-1][:SHOWN] if examples[place].influence > 0),
        tuple(examples[place] for place in order[:SHOWN] if examples[place].influence < 0),
    )


def _pairs(row: Row, reader: Reader) -> dict[int, tuple[ScoredRun, ScoredRun]]:
    """(baseline, arm) of every seed whose folders are here, on the same examples."""
    split = row.split or "test"
    arms = {run.seed: run for run in row.arm_runs}
    found = {}
    for run in row.baseline_runs:
        other = arms.get(run.seed)
        pair = [reader.run(one.folder, one.arm, split) for one in (run, other) if one]
        if len(pair) == 2 and None not in pair and pair[0].ids == pair[1].ids:
            found[run.seed] = tuple(pair)
    return found


def _influences(baseline: Sequence[np.ndarray], arm: Sequence[np.ndarray], value: Any) -> np.ndarray:
    """What leaving each example out takes from the difference, `(seeds, examples)`, positive for the arm."""
    import numpy as np

    rows = []
    for stock, ours in zip(baseline, arm):
        stock_sum, our_sum = stock.sum(axis=0), ours.sum(axis=0)
        whole = value(our_sum) - value(stock_sum)
        rows.append(whole - (value(our_sum - ours) - value(stock_sum - stock)))
    return np.nan_to_num(np.stack(rows))


def _bins(lengths: Sequence[int], sides: Sequence[Sequence[np.ndarray]], value: Any) -> list[LengthBin]:
    """About equally many examples each; one length is never split between two bins."""
    import numpy as np

    if not lengths:
        return []
    known = np.asarray(lengths)
    inner = {int(np.quantile(known, share / BINS)) for share in range(1, BINS)}
    edges = [
        int(known.min()),
        *sorted(edge + 1 for edge in inner if edge < known.max()),
        int(known.max()) + 1,
    ]
    found = []
    for low, high in pairwise(edges):
        inside = (known >= low) & (known < high)
        scores = [[float(value(one[inside].sum(axis=0))) for one in side] for side in sides]
        if inside.any() and np.isfinite(scores).all():
            differences = tuple(ours - stock for stock, ours in zip(*scores))
            lengths_inside = known[inside]
            found.append(
                LengthBin(
                    int(lengths_inside.min()), int(lengths_inside.max()), int(inside.sum()), differences
                )
            )
    return found


def _length(line: Mapping[str, Any]) -> int:
    """Words of the input where it was kept, else of the reference (one label is one word)."""
    shown = line.get("input")
    if shown is None:
        labels = isinstance(line["prediction"], list)
        shown = line["reference"]
        if not labels and isinstance(shown, list):  # several right answers: the first
            shown = shown[0] if shown else ""
    return len(shown) if isinstance(shown, list) else len(str(shown).split())


def _example(place: int, influences: np.ndarray, said: Mapping[int, Sequence[list[dict]]]) -> Example:
    """Shown with the seed on which it counts most."""
    mean = float(influences[:, place].mean())
    seed = list(said)[int((influences[:, place] * (1 if mean >= 0 else -1)).argmax())]
    stock, ours = (lines[place] for lines in said[seed])
    return Example(
        str(stock["id"]),
        mean,
        seed,
        stock.get("input"),
        stock["reference"],
        stock["prediction"],
        ours["prediction"],
    )
