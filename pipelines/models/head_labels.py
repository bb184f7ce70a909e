"""Keep the label order of a pretrained head where it has the labels of the data, and say where it has not."""

from __future__ import annotations

import re

import transformers
from transformers import PreTrainedModel

from pipelines.config.load import RunConfig
from pipelines.models.build import cannot_load, drawn_parameters
from pipelines.models.folder import model_folder
from pipelines.models.weights import listed
from pipelines.tasks.base import Task
from pipelines.tasks.shared.labels import Labelled

NO_NAME = re.compile(r"LABEL_\d+")  # what transformers writes where nobody named the labels


def head_labels(config: RunConfig) -> list[str] | None:
    """Return the labels that the config of the pretrained model names, in order; None: it names none.

    Raises:
        UserError: the config cannot be read.
    """
    name = config.model.name
    if name is None:
        return None
    try:
        found = transformers.AutoConfig.from_pretrained(
            model_folder(name), revision=config.model.revision, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise cannot_load("config", name, error) from error
    names: dict[int, str] = getattr(found, "id2label", None) or {}
    labels = [str(names[number]) for number in sorted(names)]
    return None if all(NO_NAME.fullmatch(label) for label in labels) else labels


def adopt_order(config: RunConfig, task: Task) -> None:
    """Number the labels of a task as the pretrained head does, if both have the same names."""
    if isinstance(task, Labelled):
        labels = head_labels(config)
        if labels is not None and sorted(labels) == sorted(task.labels):
            task.set_order(labels)


def label_line(config: RunConfig, task: Task, model: PreTrainedModel) -> str | None:
    """Return a sentence where a pretrained head does not name the labels of the data; None where it does."""
    if config.model.name is None or not isinstance(task, Labelled):
        return None
    labels, body = head_labels(config), f"{model.base_model_prefix}."
    drawn = any(not name.startswith(body) for name in drawn_parameters(model))
    order = f"its weights start in the order {listed(task.labels)}"
    if labels is None:
        return None if drawn else f"the pretrained head does not name its labels: {order}"
    theirs = [label for label in labels if label not in task.labels]
    ours = [label for label in task.labels if label not in labels]
    if not theirs and not ours:
        return None
    if not ours:
        what = f"has more labels than the data ({listed(theirs)})"
        fix = "list all of its labels as task.labels to keep it"
        return f"the pretrained head {what}, so it is drawn anew; {fix}"
    what = f"names other labels: the data has {listed(ours)}"
    what += f", the head {listed(theirs)}" if theirs else ""
    return f"the pretrained head {what}; " + ("it is drawn anew" if drawn else order)
