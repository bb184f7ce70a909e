"""Baseline scores without a model, against which the scores of a model are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipelines.metrics.base import Metric, total
from pipelines.tasks.base import Baseline, Example, Task


def baseline_scores(
    task: Task, train: Sequence[Example], examples: Sequence[Example]
) -> dict[str, dict[str, float]]:
    """Return the scores on `examples` of the task's baselines: baseline -> metric -> score.

    The task must be bound; a baseline that counts (the most frequent label) counts in `train`.
    """
    references = [task.reference(example) for example in examples]
    metrics = task.metrics

    def score(metric: Metric, baseline: Baseline) -> float:
        pairs = zip(map(baseline, examples), references)
        return float(metric.score(total([metric.statistics(*pair) for pair in pairs])))

    return {
        name: {metric_name: score(metric, baseline) for metric_name, metric in metrics.items()}
        for name, baseline in task.baselines(train).items()
    }


def best_baseline(task: Task, scores: Mapping[str, Mapping[str, float]], metric: str) -> tuple[str, float]:
    """Return the name and the score of the baseline that is best by one metric."""
    sign = 1 if task.metrics[metric].higher_is_better else -1
    name = max(scores, key=lambda name: sign * scores[name][metric])
    return name, scores[name][metric]
