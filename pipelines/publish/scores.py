"""From a run folder to what its card says: scores with intervals, and what an ablation found about it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import stats

from pipelines.comparison import scored_run
from pipelines.comparison.significance import cluster_sums
from pipelines.publish import learning_curve
from pipelines.publish.card import Score
from pipelines.report import format as fmt
from pipelines.storage.names import CELLS, RESULTS
from pipelines.storage.run_folder import RunFolder

CURVES = "curves.svg"


def scores(run: RunFolder) -> list[Score]:
    """Every metric of the run on its last split, with the jackknife interval over clusters of examples."""
    split = scored_run.common_split([run.path])
    found = scored_run.read(run.path, run.path.name, split)
    return [
        Score(
            name,
            found.score(name),
            split,
            len(found.ids),
            _interval(found, name),
            found.manifest["metrics"][name]["signature"],
        )
        for name in found.metrics
    ]


def _interval(run: scored_run.ScoredRun, metric: str) -> tuple[float, float] | None:
    groups = cluster_sums(run.statistics[metric][None], run.clusters)[0]
    count, total = len(groups), groups.sum(axis=0)
    if count < 2:
        return None
    without = np.array([run.metrics[metric].score(total - group) for group in groups])
    error = np.sqrt((count - 1) / count * np.square(without - without.mean()).sum())
    reach = stats.t.ppf(0.975, count - 1) * error
    value = run.score(metric)
    return (float(value - reach), float(value + reach)) if np.isfinite(reach) else None


def comparisons(run: RunFolder) -> Iterator[str]:
    """What the ablations beside a run found about its arm, by their primary metrics."""
    if run.path.resolve().parent.name != CELLS:
        return
    for path in sorted(run.path.resolve().parent.parent.glob(f"*/{RESULTS}")):
        for row in json.loads(path.read_text(encoding="utf-8"))["comparisons"]:
            members = [Path(folder).name for folder in row["runs"]["arm"] if folder]
            if row["primary"] and run.path.resolve().name in members:
                places = fmt.decimals(row["se"])
                found = f"{fmt.signed(row['difference'], places)} {fmt.interval(row['ci95'], places)}"
                p = fmt.p_value(row["p_holm"])
                yield (
                    f"{path.parent.name}: {row['arm']} against {row['baseline']} by {row['metric']} on "
                    f"{row['split']}, seeds {', '.join(map(str, row['seeds']))}: {row['verdict']}, "
                    f"difference {found} points (95 % interval), p (Holm) {p}"
                )


def figures(run: RunFolder, folder: Path) -> list[tuple[str, str]]:
    """Draw the run's learning curves into a folder; (file, what it shows) of each."""
    text = learning_curve.draw(run)
    if text is None:
        return []
    (folder / CURVES).write_text(text, encoding="utf-8")
    return [(CURVES, "Training loss and validation score by step")]
