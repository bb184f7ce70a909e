"""The commented YAML that `attnlab init` prints: every setting of a run with its default and its meaning."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from pipelines import catalog
from pipelines.errors import UserError
from pipelines.run_schema import DataConfig, GeneratedSpec, ModelConfig, RunConfig, WhereConfig
from pipelines.suggestions import perhaps

LEARNING_RATE = 1e-3  # these models start from scratch; the default of the schema is for pretrained ones
COMMENT_COLUMN = 100  # a longer line takes its comment above itself
MODELS: Mapping[str, dict[str, Any]] = {
    "bert": {
        "architecture": "bert",
        "family": "encoder",
        "config": {
            "hidden_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 512,
        },
    },
    "gpt2": {
        "architecture": "gpt2",
        "family": "decoder",
        "config": {"n_embd": 128, "n_layer": 2, "n_head": 4, "n_positions": 512},
    },
    "t5": {
        "architecture": "t5",
        "family": "encoder_decoder",
        "config": {"d_model": 128, "d_kv": 32, "num_layers": 2, "num_heads": 4, "d_ff": 512},
    },
}
GENERATED = {"train": 2000, "validation": 300, "test": 500}


def starter(task: str, model: str) -> str:
    """A complete run file: valid as printed, offline where the task has a corpus generator of its own.

    Raises:
        UserError: there is no such task, or no such model to start from.
    """
    entry = catalog.find(catalog.TASK, task)
    if entry is None:
        raise UserError(
            "--task", f"unknown task {task!r}", accepted=perhaps(task, catalog.names(catalog.TASK), "tasks")
        )
    if model not in MODELS:
        accepted = f"{perhaps(model, MODELS, 'models')}; any other is set as model.name in the file"
        raise UserError("--model", f"nothing to start {model!r} from", accepted=accepted)
    families = catalog.families(entry)
    if families and MODELS[model]["family"] not in families:
        able = [name for name, settings in MODELS.items() if settings["family"] in families]
        raise UserError("--model", f"{model} cannot learn {task}", accepted=f"models: {', '.join(able)}")
    return "\n".join([*_header(task, model), *_run(entry, model)]) + "\n"


def _header(task: str, model: str) -> Iterator[str]:
    yield f"# {task} with a small {model} from scratch: every setting. Delete the lines you do not change."
    yield "#"
    yield "#   attnlab validate my.yaml"
    yield "#   attnlab train my.yaml --out runs/first"
    yield "#   attnlab train my.yaml attention=[gate] seed=2 --out runs/second"
    yield "#"
    yield "# A setting can be changed on the command line: key.path=value."


def _run(task: catalog.Entry, model: str) -> Iterator[str]:
    written: dict[str, Iterator[str]] = {
        "task": _task(task),
        "data": _data(task),
        "model": _section(ModelConfig, MODELS[model]),
        "where": _section(WhereConfig, {}),
    }
    for name, field in RunConfig.model_fields.items():
        if name in written:
            yield ""
            yield f"{name}:  # {field.description}"
            yield from (f"  {line}" for line in written[name])
        else:
            yield from [""] * (name in ("attention", "num_epochs", "threads"))
            value = LEARNING_RATE if name == "learning_rate" else _default(field)
            yield from _line(name, value, field.description)


def _task(task: catalog.Entry) -> Iterator[str]:
    yield from _line("name", task.name, task.meaning)
    for option in task.options:
        if not option.is_required:
            yield from _line(option.name, option.default, option.meaning.rstrip("."))


def _data(task: catalog.Entry) -> Iterator[str]:
    generator = catalog.find(catalog.CORPUS, task.name)
    given = (
        {}
        if generator
        else {"train": f"{task.name}/train.jsonl", "validation": f"{task.name}/validation.jsonl"}
    )
    for line in _section(DataConfig, given):
        if generator and line.startswith("generated:"):
            yield f"generated:  # {DataConfig.model_fields['generated'].description}; null it to name files"
            yield from (f"  {inner}" for inner in _section(GeneratedSpec, {"name": task.name} | GENERATED))
        else:
            yield line


def _section(section: type[BaseModel], given: Mapping[str, Any]) -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield from _line(name, given.get(name, _default(field)), field.description)


def _default(field: Any) -> Any:
    default = field.get_default(call_default_factory=True)
    return list(default) if isinstance(default, tuple) else default


def _line(name: str, value: Any, comment: str | None) -> Iterator[str]:
    line = f"{name}: {_yaml(value)}"
    beside = f"{line}  # {comment}" if comment else line
    yield from [beside] if len(beside) <= COMMENT_COLUMN else [f"# {comment}", line]


def _yaml(value: Any) -> str:
    """A value in YAML's flow style; words go without the quotes that JSON gives them."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    is_word = isinstance(value, str) and value.replace("_", "").replace("/", "").replace(".", "").isalnum()
    return value if is_word and value.lower() not in _NOT_WORDS else json.dumps(value)


_NOT_WORDS = ("true", "false", "yes", "no", "on", "off", "null")
