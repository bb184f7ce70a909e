"""The ablation file that `attnlab init --ablation` prints: one cell, a few arms, seeds, primary, margin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.actions.init_data import Start
from pipelines.actions.init_lines import explained, in_yaml, line, with_choices
from pipelines.config.ablation import AblationFile
from pipelines.registry import catalog

ARMS: Mapping[str, list[str]] = {"stock": [], "gate": ["gate"], "temperature": ["temperature"]}
SEEDS = [1, 2, 3]
MARGIN = 1.0


def ablation_lines(start: Start, model: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of an ablation of one run: stock attention against a gate and a temperature.

    Args:
        start: the task and the data.
        model: the model section.
        settings: other settings of the run.
    """
    name = start.task.name
    yield f"# {name}: does a gate on the output of attention help, does a learned temperature?"
    yield "#"
    yield "#   attnlab validate my.yaml"
    yield "#   attnlab ablate my.yaml --out runs/mine"
    yield "#"
    yield f"# {len(ARMS) * len(SEEDS)} runs. Paths start from the folder of this file."
    yield from explained(start.comments)
    yield ""
    yield f"cells:  # {_meaning('cells')}"
    yield f"  {name}:"
    yield "    task:"
    yield from (f"      {one}" for one in _mapping({"name": name} | start.options))
    yield "    data:"
    yield from (f"      {one}" for one in _mapping(start.data))
    yield "    model:"
    yield from (f"      {one}" for one in _mapping(model))
    yield from (f"    {one}" for one in _mapping({"num_epochs": 3, "batch_size": 16, **settings}))
    yield ""
    yield f"arms:  # {_meaning('arms')}; attnlab ls variants lists more"
    yield from (f"  {one}" for one in _mapping(ARMS))
    others = [other for other in catalog.names(catalog.VARIANT) if other not in ARMS]
    yield f"  # others: {', '.join(others)}"
    metric = _primary(start)
    values = {"baseline": "stock", "seeds": SEEDS, "primary": {name: metric}, "margin": {metric: MARGIN}}
    for key, value in values.items():
        yield from line(key, value, _meaning(key))
    for key in ("search", "jobs", "executor", "keep"):
        default = AblationFile.model_fields[key].default
        yield from line(key, default, with_choices(_meaning(key), AblationFile.model_fields[key].annotation))


def _primary(start: Start) -> str:
    """Return the metric that decides: the task's own, unless its options report others."""
    names, primary = catalog.metric_names(start.task, start.options), start.task.attributes.get("primary")
    return str(primary) if primary in names else names[0]


def _mapping(values: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{in_yaml(key)}: {in_yaml(value)}" for key, value in values.items())


def _meaning(name: str) -> str:
    return AblationFile.model_fields[name].description or ""
