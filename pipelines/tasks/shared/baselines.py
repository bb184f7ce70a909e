"""How far one comes without a model: what every score is to be read against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipelines.metrics.base import total
from pipelines.tasks.base import Example, Task


def trivial_scores(
    task: Task, train: Sequence[Example], examples: Sequence[Example]
) -> dict[str, dict[str, float]]:
    """Scores on `examples` of what the task calls trivial: how it is found -> metric -> score.

    The task must be bound; what is counted is counted in `train`.
    """
    return {
        way: {
            name: float(
                metric.score(
                    total(
                        [metric.statistics(guess(example), task.reference(example)) for example in examples]
                    )
                )
            )
            for name, metric in task.metrics.items()
        }
        for way, guess in task.trivial(train).items()
    }


def best_trivial(task: Task, scores: Mapping[str, Mapping[str, float]], metric: str) -> tuple[str, float]:
    """The way that comes farthest by one metric, and its score."""
    sign = 1 if task.metrics[metric].higher_is_better else -1
    way = max(scores, key=lambda way: sign * scores[way][metric])
    return way, scores[way][metric]
