"""The examples behind a difference: by length, and the most influential ones with both predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.report.data import Row
from pipelines.storage import reading, run_files
from pipelines.storage.names import PREDICTIONS, STATISTICS
from pipelines.storage.records import PredictionEntry

if TYPE_CHECKING:
    import numpy as np

    from pipelines.comparison.scored_run import ScoredRun
    from pipelines.comparison.significance import Value
    from pipelines.metrics.base import StatisticsTable

Prediction = Mapping[str, object]  # a line of predictions.<split>.jsonl
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
    """One example, its influence on the mean difference, and the predictions of both arms with one seed."""

    id: str
    influence: float
    seed: int
    shown: object  # the input; None where it was not kept or may not be published
    reference: object
    baseline: object
    arm: object


@dataclass(frozen=True)
class Breakdown:
    """A comparison by example; `best` starts with the best example, `worst` with the worst."""

    row: Row
    bins: tuple[LengthBin, ...]
    best: tuple[Example, ...]
    worst: tuple[Example, ...]

    def without_texts(self) -> Breakdown | None:
        """Return the same with labels only; None where the predictions are themselves text."""
        if not all(isinstance(one.baseline, list) for one in (*self.best, *self.worst)):
            return None
        best, worst = (tuple(replace(one, shown=None) for one in side) for side in (self.best, self.worst))
        return replace(self, best=best, worst=worst)


class Reader:
    """Statistics and predictions of runs, each read once."""

    def __init__(self) -> None:
        self._runs: dict[Path, ScoredRun | None] = {}
        self._predictions: dict[Path, list[Prediction]] = {}

    def run(self, folder: Path, label: str, split: str) -> ScoredRun | None:
        """Return a run's statistics; None where the folder is missing, as in a report that was copied alone.

        Raises:
            UserError: a file of the run is missing or damaged.
        """
        from pipelines.comparison import scored_run  # numpy and pyarrow: only where there are run folders

        if folder not in self._runs:
            there = reading.is_there(folder / STATISTICS.format(split))
            self._runs[folder] = scored_run.read(folder, label, split) if there else None
        return self._runs[folder]

    def predictions(self, run: ScoredRun) -> list[Prediction]:
        if run.folder not in self._predictions:
            path = run.folder / PREDICTIONS.format(run.split)
            there = reading.is_there(path)
            fix = run_files.train_again(run.folder)
            lines = reading.json_lines(path, fix, PredictionEntry) if there else []
            self._predictions[run.folder] = list(lines)
        return self._predictions[run.folder]


def breakdown(row: Row, reader: Reader) -> Breakdown | None:
    """Return the examples behind a row; None without its run folders."""
    pairs = _pairs(row, reader)
    if not pairs:
        return None
    from pipelines.metrics.base import comparable

    first = next(iter(pairs.values()))[0]
    value = comparable(first.metrics[row.metric])
    baseline, arm = ([pair[side].statistics[row.metric] for pair in pairs.values()] for side in (0, 1))
    influences = _influences(list(pairs.values()), row.metric)
    predictions = {seed: [reader.predictions(run) for run in pair] for seed, pair in pairs.items()}
    complete = all(len(lines) == influences.shape[1] for pair in predictions.values() for lines in pair)
    lengths = [_length(line) for line in next(iter(predictions.values()))[0]] if complete else []
    order = influences.mean(axis=0).argsort(kind="stable").tolist() if complete else []
    shown = {*order[:SHOWN], *order[-SHOWN:]}
    examples = {place: _example(place, influences, predictions) for place in shown}
    return Breakdown(
        row,
        tuple(_bins(lengths, (baseline, arm), value)),
        tuple(examples[place] for place in order[::-1][:SHOWN] if examples[place].influence > 0),
        tuple(examples[place] for place in order[:SHOWN] if examples[place].influence < 0),
    )


def _pairs(row: Row, reader: Reader) -> dict[int, tuple[ScoredRun, ScoredRun]]:
    """Return (baseline, arm) of every seed whose folders exist and hold the same examples."""
    split = row.split or "test"
    arms = {run.seed: run for run in row.arm_runs}
    found = {}
    for run in row.baseline_runs:
        other = arms.get(run.seed)
        if other is None:
            continue
        baseline = reader.run(run.folder, run.arm, split)
        arm = reader.run(other.folder, other.arm, split)
        if baseline is not None and arm is not None and baseline.ids == arm.ids:
            found[run.seed] = (baseline, arm)
    return found


def _influences(pairs: Sequence[tuple[ScoredRun, ScoredRun]], metric: str) -> np.ndarray:
    """Return by how much the difference falls without each example, `(seeds, examples)`.

    Positive values favour the arm.
    """
    import numpy as np

    from pipelines.comparison.significance import delete_one
    from pipelines.metrics.base import comparable

    rows = []
    for pair in pairs:
        before, after = (delete_one(run.statistics[metric], comparable(run.metrics[metric])) for run in pair)
        rows.append((after.whole - before.whole) - (after.without - before.without))
    return np.nan_to_num(np.stack(rows))


def _bins(
    lengths: Sequence[int], sides: Sequence[Sequence[StatisticsTable]], value: Value
) -> list[LengthBin]:
    """Return bins with about equally many examples; examples of one length are always in one bin."""
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
            differences = tuple(after - before for before, after in zip(*scores))
            lengths_inside = known[inside]
            found.append(
                LengthBin(
                    int(lengths_inside.min()), int(lengths_inside.max()), int(inside.sum()), differences
                )
            )
    return found


def _length(line: Prediction) -> int:
    """Return the number of words of the input where it was kept, else of the reference (a word per label)."""
    shown = line.get("input")
    if shown is None:
        labels = isinstance(line["prediction"], list)
        shown = line["reference"]
        if not labels and isinstance(shown, list):  # several right answers: the first
            shown = shown[0] if shown else ""
    return len(shown) if isinstance(shown, list) else len(str(shown).split())


def _example(
    place: int, influences: np.ndarray, predictions: Mapping[int, Sequence[list[Prediction]]]
) -> Example:
    """Return an example with the predictions of the seed that it influences most."""
    mean = float(influences[:, place].mean())
    seed = list(predictions)[int((influences[:, place] * (1 if mean >= 0 else -1)).argmax())]
    baseline, arm = (lines[place] for lines in predictions[seed])
    return Example(
        str(baseline["id"]),
        mean,
        seed,
        baseline.get("input"),
        baseline["reference"],
        baseline["prediction"],
        arm["prediction"],
    )
