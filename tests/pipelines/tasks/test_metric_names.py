"""The catalog reads from source which metrics a task with its options reports, and the task reports these."""

from __future__ import annotations

from itertools import product

import pytest
import yaml

from pipelines.config.load import load_run
from pipelines.errors import UserError
from pipelines.registry.catalog import TASK, find, metric_names, names
from pipelines.registry.load import load_class
from pipelines.tasks.base import Task

REQUIRED = {"forecasting": {"channels": ["load", "heat"]}}


def all_options(name: str) -> list[dict]:
    """Every combination of the options of a task that are true or false."""
    switches = [option.name for option in find(TASK, name).options if isinstance(option.default, bool)]
    required = REQUIRED.get(name, {})
    return [required | dict(zip(switches, chosen)) for chosen in product((False, True), repeat=len(switches))]


CASES = [(name, options) for name in names(TASK) for options in [REQUIRED.get(name, {}), *all_options(name)]]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_catalog_knows_the_metrics_that_a_task_with_these_options_reports(name, options):
    task = load_class(f"pipelines.tasks.{name}", Task)(**options)
    assert list(task.metrics) == metric_names(find(TASK, name), options)
    assert {name: metric.name for name, metric in task.metrics.items()} == {
        name: name for name in task.metrics
    }
    assert task.primary in task.metrics


@pytest.mark.parametrize("task", ["question_answering", "generative_question_answering"])
def test_a_metric_that_an_option_adds_can_select_with_this_option_alone(task, tmp_path):
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 29}
    settings = {
        "task": task,
        "data": {"generated": {"name": "question_answering", "train": 60, "validation": 20}},
        "model": {"architecture": "bert", "family": "encoder", "vocab_size": 320, "config": sizes},
        "select_by": "exact_match_unanswerable",
    }
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(settings))
    assert load_run([file], ["task.unanswerable=true"]).select_by == "exact_match_unanswerable"
    with pytest.raises(UserError, match=f"unknown metric 'exact_match_unanswerable' of task {task}"):
        load_run([file], [])
