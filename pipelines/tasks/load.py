"""Build the task that a configuration names."""

from __future__ import annotations

from importlib.util import find_spec

from pipelines.config.load import RunConfig
from pipelines.config.options import check_options
from pipelines.errors import UserError
from pipelines.registry import catalog
from pipelines.registry.load import load_class
from pipelines.tasks.base import Task

# The package that decodes each kind of input: module, and name on PyPI. Text and numbers need none.
DECODERS = {"image": ("PIL", "pillow"), "audio": ("soundfile", "soundfile")}


def load_task(config: RunConfig) -> Task:
    """Return the task a configuration names: the class of `pipelines/tasks/<name>.py`, with its options.

    Raises:
        UserError: an option is refused, or the package that decodes its data is not installed.
    """
    entry = catalog.find(catalog.TASK, config.task.name)
    if entry is not None:
        check_options(entry, config.task.options, "task")
    task_class: type[Task] = load_class(f"pipelines.tasks.{config.task.name}", Task)
    require_reader(task_class.reads)
    task = task_class(**config.task.options)
    task.label_smoothing = config.label_smoothing
    return task


def require_reader(reads: str) -> None:
    """Refuse a task whose data cannot be decoded on this machine.

    Raises:
        UserError: names the package that is missing.
    """
    module, package = DECODERS.get(reads, ("", ""))
    if module and find_spec(module) is None:
        what = f"this task reads {reads}, and {package} is not installed"
        raise UserError("task", what, accepted=f"pip install {package}")
