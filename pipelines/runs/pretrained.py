"""A pretrained model as it stands, to be scored without training: any of the Hub that has the task's head."""

from __future__ import annotations

import inspect
from typing import Any

import transformers

from pipelines.config.load import RunConfig
from pipelines.config.run import TaskSpec
from pipelines.distributed.accelerator import build_accelerator
from pipelines.errors import UserError
from pipelines.hub.fetch import model_source
from pipelines.models.attention import attach, variant_errors_as_user_errors
from pipelines.models.build import build_model
from pipelines.models.processor import load_processor
from pipelines.runs.load import LoadedRun
from pipelines.runs.prepare import drawn_line, set_up_libraries
from pipelines.tasks.load import load_task


def untrained(config: RunConfig) -> LoadedRun:
    """The model that a run would begin with, under the labels that its own config names, ready to predict.

    Raises:
        UserError: it starts from scratch, or has no head for the task, so that a score would mean nothing.
    """
    if config.model.name is None:
        raise UserError("model", "a model from scratch knows nothing yet", accepted="name one by model.name")
    config = config.model_copy(update={"processes": 1, "sharding": "none", "task": _with_labels(config)})
    set_up_libraries(config)
    task = load_task(config)
    task.bind(load_processor(config, task), config.model.family)
    model = build_model(config, task.head, task.processor, task.model_options())
    if model.drawn_parameters:
        fix = "name a model that was trained for this task, or train this one first"
        raise UserError("model.name", drawn_line(model.drawn_parameters), config.model.name, fix)
    with variant_errors_as_user_errors():
        attach(config, model)
    accelerator = build_accelerator(config)
    return LoadedRun(config, {"scores": {}}, task, model.to(accelerator.device).eval(), accelerator)


def _with_labels(config: RunConfig) -> TaskSpec:
    """The task with the model's labels in the model's order, where a task has labels and none are stated."""
    task = config.task
    takes_labels = "labels" in inspect.signature(type(load_task(config)).__init__).parameters
    if not takes_labels or task.options.get("labels"):
        return task
    try:
        found = transformers.AutoConfig.from_pretrained(
            model_source(config.model.name), revision=config.model.revision
        )
    except (OSError, ValueError) as error:
        raise UserError("model.name", f"its config cannot be read: {error}", config.model.name) from error
    names: dict[int, Any] = found.id2label
    labels = [names[number] for number in sorted(names)]
    if labels == [f"LABEL_{number}" for number in range(len(labels))]:
        fix = "state them in the model's order as task.labels"
        raise UserError("model.name", "the model does not name its labels", config.model.name, fix)
    return task.model_copy(update={"options": {**task.options, "labels": labels}})
