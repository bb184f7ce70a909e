"""A task tunes thresholds on validation only, and they are kept with the weights they were tuned for."""

from __future__ import annotations

from pathlib import Path

from pipelines.train.checkpoint import CheckpointStore
from tests.pipelines.train import harness


class Tuned(harness.ToyTagging):
    """Counts how often it is tuned, and is told what to go back to."""

    def __init__(self):
        self.tuned, self.restored = [], []

    def tune(self, examples, raws):
        assert len(examples) == len(raws)
        self.tuned.append(len(examples))

    def state(self):
        return {"times": len(self.tuned)}

    def restore(self, state):
        self.restored.append(state)


def fit(folder: Path, scores: list[float]):
    """Train with given validation scores, so that the best step is known; the task that was tuned."""
    task, left = Tuned(), iter(scores)

    def hook(training):
        training.task = task
        score = training.score

        def scored(split, prepared):
            evaluation = score(split, prepared)
            value = next(left)
            evaluation.metrics["accuracy"].score = lambda sums: value
            return evaluation

        training.score = scored

    return task, harness.fit(folder, hook=hook)


def test_a_task_is_tuned_once_an_evaluation_and_goes_back_to_what_was_best(tmp_path):
    task, training = fit(tmp_path, [10.0, 30.0, 20.0])  # at steps 5, 10 and 12
    assert training.state.best_step == 10
    assert task.tuned == [13, 13, 13]
    assert task.restored == [{"times": 2}]


def test_what_was_tuned_is_in_the_checkpoint(tmp_path):
    fit(tmp_path, [10.0, 30.0, 20.0])
    state = CheckpointStore(tmp_path / "checkpoints").newest_valid().state
    assert state["best_task_state"] == {"times": 2}


def test_no_other_split_tunes(tmp_path):
    training = harness.fit(tmp_path)
    training.task = Tuned()
    training.score("test", training.validation)
    assert training.task.tuned == []
    training.score("validation", training.validation)
    assert training.task.tuned == [13]
