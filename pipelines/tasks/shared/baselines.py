"""What the data says of scores before a model is there: baseline scores, and metrics that misjudge it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from pipelines.metrics.base import Metric, best_of, notes, total
from pipelines.tasks.base import Baseline, Example, Task

MOST_NOTED = 1000  # examples whose references tell whether a metric can judge them


def metric_notes(task: Task, examples: Iterable[Example]) -> list[str]:
    """Return what the metrics of a bound task say of the first examples (see `Metric.note`)."""
    return notes(task.metrics, [task.reference(example) for example in islice(examples, MOST_NOTED)])


def baseline_scores(
    task: Task, train: Sequence[Example], examples: Sequence[Example]
) -> dict[str, dict[str, float]]:
    """Return the scores on `examples` of the task's baselines: baseline -> metric -> score.

    The task must be bound; a baseline that counts (the most frequent label) counts in `train`.
    """
    references = [task.reference(example) for example in examples]
    metrics = task.metrics

    def score(metric: Metric, baseline: Baseline) -> float:
        return float(metric.score(total(metric.table(list(map(baseline, examples)), references))))

    return {
        name: {metric_name: score(metric, baseline) for metric_name, metric in metrics.items()}
        for name, baseline in task.baselines(train).items()
    }


def best_baseline(task: Task, scores: Mapping[str, Mapping[str, float]], metric: str) -> tuple[str, float]:
    """Return the name and the score of the baseline that is best by one metric."""
    found = {name: values[metric] for name, values in scores.items()}
    return best_of(found, task.metrics[metric].higher_is_better)
