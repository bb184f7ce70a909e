"""Folders that hold a model with its variants, and load as that or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import transformers
from safetensors import safe_open
from torch import nn

from custom_attention.attach import attach_saved, attached
from custom_attention.dispatch import ATTRIBUTE
from custom_attention.errors import VariantError

KEY = "attnlab"  # in config.json: what is attached where
MODEL_TYPE = "attnlab-"  # before the model's own type, so that no Auto class takes the folder for stock
FORMAT = 1


def save(model: nn.Module, folder: str | Path, **options: Any) -> Path:
    """Write an attached model to `folder` (safetensors, sharded by `max_shard_size=`), to be read by `load`
    alone.

    Stock classes and Auto classes of transformers raise on the folder instead of loading stock attention.
    Fold first where the variant allows: a folded model is a plain one. Raises VariantError for a model that
    carries nothing.
    """
    pairs = [(module, stack) for module, stack in attached(model) if len(stack)]
    if not pairs:
        raise VariantError(
            type(model).__name__, "no variant is attached", accepted="use model.save_pretrained"
        )
    kernels = sorted({stack.kernel_name for _, stack in attached(model)})
    if len(kernels) > 1:
        raise VariantError(
            type(model).__name__, "one kernel for the whole model is needed to save it", kernels
        )
    folder = Path(folder)
    # A parameter that sites share is written for each of them: transformers refuses ties it does not know.
    state = {name: value.clone() if _is_ours(name) else value for name, value in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=state, **options)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config[KEY] = {
        "format": FORMAT,
        "architecture": type(model).__name__,
        "model_type": config["model_type"],
        "kernel": kernels[0],
        "variants": [[name, options] for name, options in pairs[0][1].recipe],
        "sites": [stack.site.name for _, stack in pairs],
    }
    config["model_type"] = MODEL_TYPE + config["model_type"]
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return folder


def load(folder: str | Path) -> nn.Module:
    """The model that `save` wrote, in evaluation mode, with its variants, its types and the very same
    weights.

    Raises VariantError when the folder is not one of ours, or its weights do not fit.
    """
    folder = Path(folder)
    path = folder / "config.json"
    if not path.is_file():
        raise VariantError(
            str(folder), "no config.json here", accepted="a folder written by custom_attention.save"
        )
    values = json.loads(path.read_text(encoding="utf-8"))
    record = values.pop(KEY, None)
    if record is None:
        raise VariantError(
            str(path), "no variant is recorded", accepted="load it with transformers, it is stock"
        )
    if record["format"] != FORMAT:
        raise VariantError(str(path), "written by another version of attnlab", record["format"], str(FORMAT))
    values["model_type"] = record["model_type"]
    values.pop("attn_implementation", None)
    config = transformers.AutoConfig.for_model(**values)
    architecture = getattr(transformers, record["architecture"], None)
    if architecture is None:
        raise VariantError(str(path), "transformers has no such class", record["architecture"])
    model = architecture.from_pretrained(folder, config=config, attn_implementation=record["kernel"])
    attach_saved(model, record["variants"], record["sites"])
    _fill(model, folder)
    return model.eval()


def _fill(model: nn.Module, folder: Path) -> None:
    """Read the variants' parameters, each in the type it was saved in. All of them must be there, and no
    others."""
    parameters = {n: p for n, p in model.named_parameters(remove_duplicate=False) if _is_ours(n)}
    waiting, unknown = {id(p): name for name, p in parameters.items()}, []
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in filter(_is_ours, tensors.keys()):
                parameter = parameters.get(name)
                if parameter is None or list(parameter.shape) != tensors.get_slice(name).get_shape():
                    unknown.append(name)
                    continue
                parameter.data = tensors.get_tensor(name).to(parameter.device)
                waiting.pop(id(parameter), None)
    if unknown or waiting:
        wrong = sorted(unknown) + sorted(waiting.values())
        raise VariantError(str(folder), "the variants' parameters do not fit the code", wrong[:3])


def _is_ours(name: str) -> bool:
    return f".{ATTRIBUTE}." in f".{name}"


def is_saved(folder: str | Path) -> bool:
    """Whether `folder` holds a model written by `save`."""
    path = Path(folder) / "config.json"
    return path.is_file() and KEY in json.loads(path.read_text(encoding="utf-8"))
