"""Load a pretrained model that already has the task's head, to score it without training."""

from __future__ import annotations

import inspect

from pipelines.config.load import RunConfig
from pipelines.config.run import TaskSpec
from pipelines.distributed.accelerator import build_accelerator
from pipelines.errors import UserError
from pipelines.models.attention import attach, variant_errors_as_user_errors
from pipelines.models.build import build_model, drawn_parameters
from pipelines.models.head_labels import adopt_order, head_labels
from pipelines.models.processor import load_processor
from pipelines.models.weights import loading_lines
from pipelines.runs.load import LoadedRun
from pipelines.runs.prepare import set_up_libraries
from pipelines.tasks.load import load_task


def load_pretrained(config: RunConfig) -> LoadedRun:
    """Load the model that a run would start from, ready to predict; labels are those of the model's config.

    Raises:
        UserError: the model is from scratch or has no trained head for the task; a score would mean nothing.
    """
    name = config.model.name
    if name is None:
        raise UserError("model", "a model from scratch is not trained yet", accepted="name one by model.name")
    one_process = {"processes": 1, "sharding": "none", "task": _with_labels(config, name)}
    config = config.model_copy(update=one_process)
    set_up_libraries(config)
    task = load_task(config)
    adopt_order(config, task)
    task.bind(load_processor(config, task), config.model.family)
    model = build_model(config, task.head, task.processor, task.model_options())
    if drawn_parameters(model):
        fix = "name a model that was trained for this task, or train this one first"
        raise UserError("model.name", loading_lines(model)[0], name, fix)
    with variant_errors_as_user_errors():
        attach(config, model)
    accelerator = build_accelerator(config)
    return LoadedRun(config, {}, task, model.to(accelerator.device).eval(), accelerator)


def _with_labels(config: RunConfig, name: str) -> TaskSpec:
    """Return the task with the labels of the model, in its order, if the task has labels and states none."""
    task = config.task
    takes_labels = "labels" in inspect.signature(type(load_task(config)).__init__).parameters
    if not takes_labels or task.options.get("labels"):
        return task
    labels = head_labels(config)
    if labels is None:
        fix = "state them in the model's order as task.labels"
        raise UserError("model.name", "the model does not name its labels", name, fix)
    return task.model_copy(update={"options": {**task.options, "labels": labels}})
