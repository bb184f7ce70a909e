"""`attnlab init`: print a run file with every setting, its default and its meaning."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from pipelines.config.run import DataConfig, GeneratedSpec, ModelConfig, RunConfig, WhereConfig
from pipelines.config.suggestions import perhaps
from pipelines.errors import UserError
from pipelines.registry import catalog

LEARNING_RATE = 1e-3  # these models start from scratch; the default of the schema is for pretrained ones
COMMENT_COLUMN = 100  # a longer line has its comment above
ENCODER = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 512,
}
MODELS: Mapping[str, dict[str, Any]] = {
    "bert": {
        "architecture": "bert",
        "family": "encoder",
        "config": ENCODER,
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
    "vit": {
        "architecture": "vit",
        "family": "encoder",
        "config": {"image_size": 24, "patch_size": 8, "num_channels": 1, **ENCODER},
    },
    "ast": {
        "architecture": "audio-spectrogram-transformer",
        "family": "encoder",
        "config": {"max_length": 23, "num_mel_bins": 64, **ENCODER},
    },
    "patchtst": {
        "architecture": "patchtst",
        "family": "encoder",
        "config": {
            "d_model": 16,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "ffn_dim": 128,
            "patch_length": 16,
            "patch_stride": 8,
            "norm_type": "layernorm",
        },
    },
}
READS = {"vit": "image", "ast": "audio", "patchtst": "series"}  # every other model reads text
# Options that a task requires, or that its generated corpus needs.
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "audio_classification": {"seconds": 0.25},
    "forecasting": {"channels": ["load", "heat"]},
}
GENERATED = {"train": 2000, "validation": 300, "test": 500}


def able_models(task: catalog.Entry) -> list[str]:
    """Return the names in `MODELS` that can learn a task."""
    families, reads = catalog.families(task), task.attributes.get("reads", "text")
    return [
        name
        for name, settings in MODELS.items()
        if (settings["family"] in families or not families) and READS.get(name, "text") == reads
    ]


def init_command(task: str, model: str | None) -> None:
    """Print a complete run file; see `starter`."""
    print(starter(task, model), end="")


def starter(task: str, model: str | None = None) -> str:
    """Return a complete and valid run file, which needs no download if the task has a corpus generator.

    Args:
        model: a name in `MODELS`; None: the first that can learn the task.

    Raises:
        UserError: the task or the model is unknown, or the model cannot learn the task.
    """
    entry = catalog.find(catalog.TASK, task)
    if entry is None:
        raise UserError(
            "--task", f"unknown task {task!r}", accepted=perhaps(task, catalog.names(catalog.TASK), "tasks")
        )
    able = able_models(entry)
    if model is None:
        model = able[0]
    if model not in MODELS:
        accepted = f"{perhaps(model, MODELS, 'models')}; any other is set as model.name in the file"
        raise UserError("--model", f"unknown model {model!r}", accepted=accepted)
    if model not in able:
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
    given = OPTIONS.get(task.name, {})
    for option in task.options:
        if option.name in given or not option.is_required:
            value = given.get(option.name, option.default)
            yield from _line(option.name, value, option.meaning.rstrip("."))


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
    """Return a value in YAML's flow style, with words unquoted."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    is_word = isinstance(value, str) and value.replace("_", "").replace("/", "").replace(".", "").isalnum()
    return value if is_word and value.lower() not in _NOT_WORDS else json.dumps(value)


_NOT_WORDS = ("true", "false", "yes", "no", "on", "off", "null")
