"""What a card reports of a run: its scores with intervals, and the verdicts of ablations on its arm."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.ablation import sides
from pipelines.ablation.results import read_results, reported_ablations
from pipelines.comparison import scored_run
from pipelines.comparison.results import ComparisonResult, from_json
from pipelines.comparison.significance import LEVEL, delete_one, jackknife_variance
from pipelines.publish import learning_curve
from pipelines.publish.card import Score
from pipelines.report import format as fmt
from pipelines.storage.names import CELLS, RESULTS

CURVES = "curves.svg"


def scores(run: Path) -> list[Score]:
    """Return every metric of the run in folder `run` on its last split, with its 95 % interval."""
    split = scored_run.common_split([run])
    found = scored_run.read(run, run.name, split)
    return [
        Score(
            metric=name,
            value=found.score(name),
            split=split,
            num_examples=len(found.ids),
            interval=_interval(found, name),
            signature=found.manifest["metrics"][name]["signature"],
        )
        for name in found.metrics
    ]


def _interval(run: scored_run.ScoredRun, metric: str) -> tuple[float, float] | None:
    """Return the jackknife t interval over clusters of examples; None where it is not finite.

    It ends where the score does: at 0, and at 100 for a score in points.
    """
    from scipy.special import stdtrit  # scipy takes long to import

    without = delete_one(run.statistics[metric], run.metrics[metric].score, run.clusters).without
    count = len(without)
    if count < 2:
        return None
    reach = float(stdtrit(count - 1, 1 - LEVEL / 2)) * math.sqrt(jackknife_variance(without))
    if not math.isfinite(reach):
        return None
    value, of = run.score(metric), run.metrics[metric]
    least, most = (0.0, 100.0 if of.scale == "linear" and of.higher_is_better else math.inf)
    if not least <= value <= most:  # a measure of the user's own, with other bounds
        return value - reach, value + reach
    return max(least, value - reach), min(most, value + reach)


def comparisons(run: Path) -> Iterator[str]:
    """Yield a sentence for each primary comparison of the run's arm in the ablations beside it.

    Raises:
        UserError: a run of such an ablation is not what its grid says.
    """
    run = run.resolve()
    if run.parent.name != CELLS:
        return
    for path in sorted(run.parent.parent.glob(f"*/{RESULTS}")):
        rows = (read_results(path.parent) or {}).get("comparisons", ())
        if any(row["primary"] and run.name in _members(row) for row in rows):
            for one in reported_ablations(path.parent):
                sides.require(one.folder, one.runs)
        for row in rows:
            if row["primary"] and run.name in _members(row):
                places = fmt.decimals(row["se"])
                unit = from_json(ComparisonResult, row, str(path)).unit
                found = f"{fmt.signed(row['difference'], places)} {fmt.interval(row['ci95'], places)}"
                p = fmt.p_value(row["p_holm"])
                yield (
                    f"{path.parent.name}: {row['arm']} against {row['baseline']} by {row['metric']} on "
                    f"{row['split']}, seeds {', '.join(map(str, row['seeds']))}: {row['verdict']}, "
                    f"difference {found} {unit} (95 % interval), p (Holm) {p}"
                )


def _members(row: Mapping[str, Any]) -> list[str]:
    """Return the names of the run folders of a comparison's arm."""
    return [Path(folder).name for folder in row["runs"]["arm"] if folder]


def figures(run: Path, metric: str, folder: Path) -> list[tuple[str, str]]:
    """Draw the learning curves of a run into `folder` and return (file, caption) of each figure."""
    svg = learning_curve.draw(run, metric)
    if svg is None:
        return []
    (folder / CURVES).write_text(svg, encoding="utf-8")
    return [(CURVES, "Training loss and validation score by step")]
