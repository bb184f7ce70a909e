"""Build the task that a configuration names."""

from __future__ import annotations

import importlib
import importlib.util

from pipelines.config.load import RunConfig
from pipelines.errors import UserError
from pipelines.tasks.base import Task

# What decodes each kind of input: module, and name on PyPI. Text and numbers need nothing more.
DECODERS = {"image": ("PIL", "pillow"), "audio": ("soundfile", "soundfile")}


def load_task(config: RunConfig) -> Task:
    """The task a configuration names: the one class of `pipelines/tasks/<name>.py`, with its options.

    Raises:
        UserError: an option is refused, or what decodes its data is not installed.
    """
    module = importlib.import_module(f"pipelines.tasks.{config.task.name}")
    [task_class] = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Task) and value.__module__ == module.__name__
    ]
    require_reader(task_class.reads)
    return task_class(**config.task.options)


def require_reader(reads: str) -> None:
    """Refuse a task whose data cannot be decoded here.

    Raises:
        UserError: names the package that is missing.
    """
    module, package = DECODERS.get(reads, (None, None))
    if module is not None and importlib.util.find_spec(module) is None:
        what = f"this task reads {reads}, and {package} is not installed"
        raise UserError("task", what, accepted=f"pip install {package}")
