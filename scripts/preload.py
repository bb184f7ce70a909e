"""Import everything that a command may import, once, before the first fork."""

from __future__ import annotations

import gc
import importlib
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager

import pipelines
import pipelines.runs.preload

NOT_PACKAGES = (
    "pipelines.__main__",
    "pipelines.config.json_schema",
    "pipelines.publish.load_check_process",
)


@contextmanager
def absent_extras() -> Iterator[None]:
    """Leave out a module that needs an extra which is not installed, such as Ray."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("pipelines"):
            raise


for module in pkgutil.walk_packages(pipelines.__path__, "pipelines."):
    if module.name not in NOT_PACKAGES:
        with absent_extras():
            importlib.import_module(module.name)

# What a command computes first and remembers: hashes of the sources, the templates of a report.
from pipelines import report  # noqa: E402
from pipelines.config.load import run_from_dict  # noqa: E402
from pipelines.runs import identity  # noqa: E402
from scripts.damages.folders import RUN  # noqa: E402

for variant in ("gate", "temperature"):
    identity.describe(run_from_dict({**RUN, "max_steps": 1, "attention": [variant]}))
report.renderer()
gc.freeze()  # a fork that collects garbage would else copy all of it
