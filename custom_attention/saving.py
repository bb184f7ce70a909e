"""Folders that hold a model with its variants, and load as that or not at all.

Three ways load one: `load`; the Auto class of transformers with `trust_remote_code=True`, by the code in the
folder; and the Auto class without it once `custom_attention` is imported. Every other way raises.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from torch import nn

from custom_attention import export, registry
from custom_attention.attach import attach_saved, attached, variant_parameters
from custom_attention.errors import VariantError
from custom_attention.runtime.dispatch import ATTRIBUTE
from custom_attention.runtime.restored_model import KEY, Restored

MODEL_TYPE = "attnlab-"  # before the model's own type, so that no Auto class takes the folder for stock
FORMAT = 2


def save(
    model: nn.Module,
    folder: str | Path,
    *,
    state_dict: Mapping[str, torch.Tensor] | None = None,
    **options: Any,
) -> Path:
    """Write an attached model to `folder` with the code that a stranger needs, one generated modeling file.

    Args:
        model: a model of transformers, attached.
        folder: made if it is not there.
        state_dict: the whole tensors of a model that is sharded among processes; its own when None.
        options: for `save_pretrained`, such as `max_shard_size=`.

    Stock classes of transformers raise on the folder instead of loading stock attention. Fold first where the
    variant allows: a folded model is a plain one.

    Raises:
        VariantError: nothing is attached, or the source of a variant cannot stand alone in one file.
    """
    folder, exported = Path(folder), _exported(model)
    stock, model_type = exported.stock, exported.model_type
    # A parameter that sites share is written for each of them: transformers refuses ties it does not know.
    tensors = model.state_dict() if state_dict is None else state_dict
    state = {name: value.clone() if _is_ours(name) else value for name, value in tensors.items()}
    # Under the names of this version: older ones (ViT's), which transformers would go back to, are known to
    # it by the model's own type alone.
    model.save_pretrained(folder, state_dict=state, save_original_format=False, **options)
    names = export.names_of(stock, model_type)
    (folder / f"{names.module}.py").write_text(exported.source, encoding="utf-8")
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    types = {str(p.dtype).removeprefix("torch.") for p in variant_parameters(model).values()}
    config[KEY] = {
        "format": FORMAT,
        "architecture": stock.__name__,
        "model_type": stock.config_class.model_type,
        "kernel": exported.kernel,
        "dtype": types.pop() if len(types) == 1 else "float32",
        "variants": exported.recipe,
        "sites": [{**asdict(stack.site), "attached": len(stack) > 0} for _, stack in attached(model)],
    }
    config["model_type"] = model_type
    config["architectures"] = [names.model]
    config["auto_map"] = export.auto_map(stock, model_type)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return folder


def check_savable(model: nn.Module) -> None:
    """Raise what `save` would raise of an attached model, before time is spent on training it."""
    _exported(model)


@dataclass(frozen=True)
class _Exported:
    """An attached model as its folder describes it."""

    stock: type[transformers.PreTrainedModel]
    model_type: str
    kernel: str
    recipe: list[list]  # [name, options] of each variant
    source: str  # of the modeling file


def _exported(model: nn.Module) -> _Exported:
    stacks = [stack for _, stack in attached(model)]
    changed = [stack for stack in stacks if len(stack)]
    if not changed:
        raise VariantError(
            type(model).__name__, "no variant is attached", accepted="use model.save_pretrained"
        )
    kernels = sorted({stack.kernel_name for stack in stacks})
    if len(kernels) > 1:
        raise VariantError(
            type(model).__name__, "one kernel for the whole model is needed to save it", kernels
        )
    stock = export.stock_class(model)
    recipe = [[name, options] for name, options in changed[0].recipe]
    model_type = MODEL_TYPE + stock.config_class.model_type
    source = export.modeling_source(stock, model_type, recipe)
    return _Exported(stock, model_type, kernels[0], recipe, source)


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
    for name in ("attn_implementation", "auto_map"):
        values.pop(name, None)
    config = transformers.AutoConfig.for_model(**values)
    architecture = getattr(transformers, record["architecture"], None)
    if architecture is None:
        raise VariantError(str(path), "transformers has no such class", record["architecture"])
    with _left_to_us(architecture):
        model = architecture.from_pretrained(folder, config=config, attn_implementation=record["kernel"])
    attach_saved(model, record["variants"], [s["name"] for s in record["sites"] if s["attached"]])
    _fill(model, folder)
    return model.eval()


@contextmanager
def _left_to_us(architecture: type) -> Iterator[None]:
    """Keep transformers from warning that it does not know the variants' parameters: `_fill` reads them."""
    before = architecture._keys_to_ignore_on_load_unexpected
    architecture._keys_to_ignore_on_load_unexpected = [*(before or ()), rf"\.{ATTRIBUTE}\."]
    try:
        yield
    finally:
        architecture._keys_to_ignore_on_load_unexpected = before


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


class OnDemand:
    """What AutoConfig finds for every `attnlab-` type: the classes are made when such a folder is opened,
    so that importing this package imports no architecture."""

    @staticmethod
    def from_dict(values: dict, **options: Any) -> transformers.PreTrainedConfig:
        record = values[KEY]
        recipe = json.dumps(record["variants"])
        return _classes(record["architecture"], values["model_type"], recipe).from_dict(values, **options)


@functools.cache
def _classes(architecture: str, model_type: str, recipe: str) -> type:
    """The config class of an exported model, registered with its model class where the Auto classes look."""
    stock = getattr(transformers, architecture)
    config = export.config_class(stock.config_class, model_type)
    variants = json.loads(recipe)

    def modeling_source(cls) -> str:
        return export.modeling_source(stock, model_type, variants)

    members = {
        "config_class": config,
        "variant_classes": {name: registry.find(name) for name, _ in variants},
        "auto_map": export.auto_map(stock, model_type),
        "modeling_source": classmethod(modeling_source),
        "__module__": __name__,
    }
    model = type(export.PREFIX + architecture, (Restored, stock), members)
    for name in export.auto_classes(stock):
        getattr(transformers, name).register(config, model)
    return config


for _type in list(transformers.CONFIG_MAPPING):
    transformers.CONFIG_MAPPING.register(MODEL_TYPE + _type, OnDemand, exist_ok=True)
