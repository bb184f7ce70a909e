"""`attnlab init`: print a run file with every setting, its default and its meaning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipelines.actions.init_ablation import ablation_lines
from pipelines.actions.init_data import Start, start_from
from pipelines.actions.init_lines import explained
from pipelines.actions.init_lines import line as _line
from pipelines.actions.init_lines import with_choices as _with_choices
from pipelines.actions.init_model import model_section
from pipelines.config.data import DataConfig, GeneratedSpec
from pipelines.config.run import HubConfig, LoraConfig, ModelConfig, RunConfig, WhereConfig
from pipelines.config.suggestions import perhaps
from pipelines.errors import UserError
from pipelines.registry import catalog
from pipelines.shown import plural

LEARNING_RATE = 1e-3  # these models start from scratch; the default of the schema is for pretrained ones
FEWEST_STEPS, MOST_EPOCHS = 300, 40  # in which one from scratch learns something from few rows
# Options that a task requires, or that its generated corpus needs.
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "audio_classification": {"seconds": 0.25},
    "forecasting": {"channels": ["load", "heat"]},
}
GENERATED = {"train": 2000, "validation": 300, "test": 500}
UNFOLDED: Mapping[str, type[BaseModel]] = {"lora": LoraConfig, "hub": HubConfig}  # shown as comments


def init_command(task: str | None, model: str | None, data: Sequence[str] = (), *, ablation: bool) -> None:
    """Print a complete run or ablation file; see `starter`."""
    print(starter(task, model, data, ablation=ablation), end="")


def starter(
    task: str | None = None, model: str | None = None, data: Sequence[str] = (), *, ablation: bool = False
) -> str:
    """Return a complete and valid file, which needs no download if the task has a corpus generator.

    Args:
        task: None: the one that fits `data`; without data, ner.
        model: a small one from scratch, a folder or a Hub id; None: the first that can learn the task.
        data: files to learn from; their rows decide columns, splits and lengths.
        ablation: write an ablation of this run instead of the run.

    Raises:
        UserError: the task or the model is unknown, the model cannot learn it, or no task fits the data.
    """
    entry = _task_entry(task) if task or not data else None
    if data:
        start = start_from(data, task)
    else:
        assert entry is not None
        start = _start_without_data(entry)
    section, chosen = model_section(start.task, model)
    start.comments += chosen
    settings = _settings(section) | _epochs(section, start)
    if ablation:
        return "\n".join(ablation_lines(start, section, settings)) + "\n"
    return "\n".join([*_header(start, section), *_run(start, section, settings)]) + "\n"


def _task_entry(task: str | None) -> catalog.Entry:
    name = task or "ner"
    entry = catalog.find(catalog.TASK, name)
    if entry is None:
        fix = perhaps(name, catalog.names(catalog.TASK), "tasks")
        raise UserError("--task", f"unknown task {name!r}", accepted=fix)
    return entry


def _start_without_data(task: catalog.Entry) -> Start:
    if catalog.find(catalog.CORPUS, task.name):
        data: dict[str, Any] = {"generated": {"name": task.name} | GENERATED}
    else:
        data = {"train": f"{task.name}/train.jsonl", "validation": f"{task.name}/validation.jsonl"}
    return Start(task, dict(OPTIONS.get(task.name, {})), data)


def _settings(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that depend on the model: one from scratch learns with a higher rate."""
    return {"learning_rate": LEARNING_RATE} if "architecture" in section else {}


def _epochs(section: Mapping[str, Any], start: Start) -> dict[str, Any]:
    """Return as many epochs as few rows need for a model from scratch, and say so."""
    fields = RunConfig.model_fields
    batch, epochs = fields["batch_size"].default, fields["num_epochs"].default
    if "architecture" not in section or start.num_train is None:
        return {}
    steps = -(-start.num_train // batch)
    needed = min(MOST_EPOCHS, -(-FEWEST_STEPS // steps))
    if needed <= epochs:
        return {}
    start.comments.append(
        f"num_epochs {needed}: {start.num_train:,} rows make {plural(steps, 'step')} an epoch, and a model "
        "from scratch needs some hundreds."
    )
    return {"num_epochs": needed}


def _header(start: Start, section: Mapping[str, Any]) -> Iterator[str]:
    model = section.get("name") or f"a small {section['architecture']} from scratch"
    yield f"# {start.task.name} with {model}: every setting. Delete the lines you do not change."
    yield "#"
    yield "#   attnlab validate my.yaml"
    yield "#   attnlab train my.yaml --out runs/first"
    yield "#   attnlab train my.yaml attention=[gate] seed=2 --out runs/second"
    yield "#"
    yield "# A setting can be changed on the command line: key.path=value. Paths start from its folder."
    yield from explained(start.comments)


def _run(start: Start, section: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[str]:
    written: dict[str, Iterator[str]] = {
        "task": _task(start),
        "data": _data(start.data),
        "model": _section(ModelConfig, section),
        "where": _section(WhereConfig, {}),
    }
    for name, field in RunConfig.model_fields.items():
        if name in written:
            yield ""
            yield f"{name}:  # {field.description}"
            yield from (f"  {line}" for line in written[name])
        else:
            yield from [""] * (name in ("attention", "num_epochs", "threads"))
            yield from _field(name, field, given)
            yield from _unfolded(name)


def _unfolded(name: str) -> Iterator[str]:
    """Yield the settings of a section that is null, as comments to take away."""
    if name in UNFOLDED:
        yield f"# {name}:"
        required = {"repo": "ORG/NAME"}
        yield from (f"#   {line}" for line in _section(UNFOLDED[name], required if name == "hub" else {}))


def _task(start: Start) -> Iterator[str]:
    yield from _line("name", start.task.name, start.task.meaning)
    for option in start.task.options:
        if option.name in start.options or not option.is_required:
            value = start.options.get(option.name, option.default)
            yield from _line(option.name, value, _with_choices(_in_yaml(option.meaning), option.hint))


def _in_yaml(meaning: str) -> str:
    return meaning.rstrip(".").replace("None:", "null:")


def _data(given: Mapping[str, Any]) -> Iterator[str]:
    for line in _section(DataConfig, {name: value for name, value in given.items() if name != "generated"}):
        if "generated" in given and line.startswith("generated:"):
            yield f"generated:  # {DataConfig.model_fields['generated'].description}; null it to name files"
            yield from (f"  {inner}" for inner in _section(GeneratedSpec, given["generated"]))
        else:
            yield line


def _section(section: type[BaseModel], given: Mapping[str, Any]) -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield from _field(name, field, given)


def _field(name: str, field: FieldInfo, given: Mapping[str, Any]) -> Iterator[str]:
    value = given[name] if name in given else _default(field)
    yield from _line(name, value, _with_choices(field.description or "", field.annotation))


def _default(field: FieldInfo) -> Any:
    default = field.get_default(call_default_factory=True)
    return list(default) if isinstance(default, tuple) else default
