"""The folder of a scored file: what a comparison reads of a run, so that one code judges and reports both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.metrics.base import Metric, total
from pipelines.predictions.examples import Examples
from pipelines.predictions.run_side import RunSide
from pipelines.predictions.scored import ScoredFile
from pipelines.storage.names import STATISTICS
from pipelines.storage.run_folder import RunFolder, write_statistics

# Of a run, beside its scores: whether it was selected on this split, learned nothing, ran elsewhere.
KEPT = ("baselines", "best_step", "num_steps", "environment")


def write(
    folder: Path,
    scored: ScoredFile,
    examples: Examples,
    cell: Mapping[str, Any],
    source: Mapping[str, Any],
    split: str,
    primary: str,
    side: RunSide | None = None,
) -> None:
    """Write the predictions, the statistics and the manifest of one file.

    Args:
        cell: task and data of the comparison.
        source: the file, with the fields of `SourceFile`.
        side: the run that it is, if it is one.
    """
    record = RunFolder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if scored.predictions:
        record.write_evaluation(split, scored)
    else:  # a pushed run has none
        write_statistics(folder / STATISTICS.format(split), scored)
    scores = {
        name: float(metric.score(total(scored.statistics[name]))) for name, metric in scored.metrics.items()
    }
    known = side.run.manifest if side is not None else {}
    record.finish(
        {
            "status": "finished",
            "run_hash": known.get("run_hash", ""),
            "config": {**cell, "attention": [], "seed": 0},
            "task_state": {},
            "environment": {},
            **{name: known[name] for name in KEPT if name in known},
            "scores": {**known.get("scores", {}), split: scores},
            "metrics": {name: _described(metric, scored) for name, metric in scored.metrics.items()},
            "primary": primary,
            "data": {"hashes": {split: examples.digest}, "num_examples": {split: examples.count}},
            "source": dict(source),
        }
    )


def _described(metric: Metric, scored: ScoredFile) -> dict[str, Any]:
    found = {
        "module": metric.module,
        "options": metric.options,
        "columns": list(metric.columns),
        "signature": metric.signature,
        "higher_is_better": metric.higher_is_better,
    }
    note = metric.note(scored.references)
    return {**found, "note": note} if note else found
