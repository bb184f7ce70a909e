"""What needs no model scores on a run's validation split: once for `inspect`, once for the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from pipelines.comparison.without_model import BaselineRecord
from pipelines.data.features import Prepared
from pipelines.tasks.base import Task
from pipelines.tasks.shared.baselines import baseline_scores

MOST_SCORED = 1000  # examples on which the baselines are scored
MOST_COUNTED = 50_000  # examples of train in which they count words and labels


def baseline_record(task: Task, prepared: Mapping[str, Prepared]) -> BaselineRecord | None:
    """Return the scores of the task's baselines on validation; None where there is nothing to score."""
    if "validation" not in prepared:
        return None
    train = list(islice(prepared["train"].examples, MOST_COUNTED))
    examples = list(islice(prepared["validation"].examples, MOST_SCORED))
    scores = baseline_scores(task, train, examples)
    return {"split": "validation", "num_examples": len(examples), "scores": scores} if scores else None
