"""Save a model with its variants in a folder, and load it again.

Three ways load such a folder: `load`; an Auto class of transformers with `trust_remote_code=True`, which runs
the code in the folder; and an Auto class without it once `custom_attention` is imported. Stock classes raise.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import transformers
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from custom_attention import adapters, export, registry
from custom_attention.attach import attach_saved, attached, variant_parameters
from custom_attention.errors import VariantError
from custom_attention.permissions import follow_umask
from custom_attention.runtime.adapter import Adapter
from custom_attention.runtime.dispatch import ATTRIBUTE, Recipe
from custom_attention.runtime.restored_model import KEY, Restored
from custom_attention.training import progress_of, set_progress

MODEL_TYPE = "attnlab-"  # before the model's own type, so that no Auto class loads the folder as stock
FORMAT = 2


def save(
    model: PreTrainedModel,
    folder: str | Path,
    *,
    state_dict: Mapping[str, Tensor] | None = None,
    **options: Any,
) -> Path:
    """Write an attached model to `folder`, with one generated modeling file, and return the folder.

    With that file the folder loads where this package is not installed. Stock classes of transformers raise
    on the folder instead of loading stock attention. A folded model needs no code: fold first where the
    variant allows it.

    Args:
        model: a model of transformers with variants attached.
        folder: created if it does not exist.
        state_dict: the complete tensors of a model that is sharded among processes; the model's own when
            None.
        options: for `save_pretrained`, such as `max_shard_size=`.

    Raises:
        VariantError: nothing is attached, or the source of a variant cannot stand alone in one file.
    """
    folder, exported = Path(folder), _exported(model)
    stock, model_type = exported.stock, exported.model_type
    # A parameter that sites share is written once for each: transformers refuses ties it does not know.
    tensors = model.state_dict() if state_dict is None else state_dict
    state = {name: value.clone() if _is_of_variant(name) else value for name, value in tensors.items()}
    # With the parameter names of this version: transformers would write older names (ViT's), which it can
    # only read back under the stock model type.
    model.save_pretrained(folder, state_dict=state, save_original_format=False, **options)
    names = export.names_of(stock, model_type)
    (folder / f"{names.module}.py").write_text(exported.source, encoding="utf-8")
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    types = {str(p.dtype).removeprefix("torch.") for p in variant_parameters(model).values()}
    config[KEY] = {
        "format": FORMAT,
        "architecture": stock.__name__,
        "model_type": export.config_class_of(stock).model_type,
        "kernel": exported.kernel,
        "dtype": types.pop() if len(types) == 1 else "float32",
        "variants": exported.recipe,
        "sites": [{**asdict(stack.site), "attached": len(stack) > 0} for _, stack in attached(model)],
    }
    progress = progress_of(model)
    if progress is not None:
        config[KEY]["progress"] = progress
    config["model_type"] = model_type
    config["architectures"] = [names.model]
    config["auto_map"] = export.auto_map(stock, model_type)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    follow_umask(folder)
    return folder


def check_savable(model: PreTrainedModel) -> None:
    """Refuse an attached model that `save` would refuse, before time is spent on training it.

    Raises:
        VariantError: as `save`.
    """
    _exported(model)


@dataclass(frozen=True)
class _Exported:
    """An attached model as its folder describes it."""

    stock: type[PreTrainedModel]
    model_type: str
    kernel: str
    recipe: Recipe
    source: str  # of the modeling file


def _exported(model: PreTrainedModel) -> _Exported:
    """Return how `model` is saved, or refuse it."""
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
    foreign = {type(module).__name__ for module, _ in attached(model) if isinstance(module, Adapter)} - {
        adapter.__name__ for adapter in adapters.of_class(stock)
    }
    if foreign:
        what = f"a part of it has an adapter of another architecture, which {stock.__name__} cannot carry"
        raise VariantError(type(model).__name__, what, sorted(foreign))
    recipe = changed[0].recipe
    model_type = MODEL_TYPE + export.config_class_of(stock).model_type
    source = export.modeling_source(stock, model_type, recipe)
    return _Exported(stock, model_type, kernels[0], recipe, source)


def load(folder: str | Path) -> PreTrainedModel:
    """Load a model that `save` wrote, in evaluation mode, with its variants, types and weights bit for bit.

    Raises:
        VariantError: `save` did not write the folder, or its weights do not fit.
    """
    folder = Path(folder)
    path = folder / "config.json"
    if not path.is_file():
        raise VariantError(
            str(folder), "there is no config.json", accepted="a folder written by custom_attention.save"
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
    architecture = getattr(transformers, str(record["architecture"]), None)
    if not (isinstance(architecture, type) and issubclass(architecture, PreTrainedModel)):
        raise VariantError(str(path), "transformers has no such class", record["architecture"])
    with _ignoring_variant_parameters(architecture):
        model = architecture.from_pretrained(folder, config=config, attn_implementation=record["kernel"])
    recipe = [(name, options) for name, options in record["variants"]]
    attach_saved(model, recipe, [site["name"] for site in record["sites"] if site["attached"]])
    _load_variant_parameters(model, folder)
    if "progress" in record:
        set_progress(model, record["progress"])
    model.eval()
    return model


@contextmanager
def _ignoring_variant_parameters(architecture: type[PreTrainedModel]) -> Iterator[None]:
    """Keep transformers from a warning about the variants' parameters, which are loaded after attaching."""
    before = architecture._keys_to_ignore_on_load_unexpected
    architecture._keys_to_ignore_on_load_unexpected = [*(before or ()), rf"\.{ATTRIBUTE}\."]
    try:
        yield
    finally:
        architecture._keys_to_ignore_on_load_unexpected = before


def _load_variant_parameters(model: nn.Module, folder: Path) -> None:
    """Load the variants' parameters, each in the type it was saved in.

    Raises:
        VariantError: one is missing, unknown or of another shape.
    """
    parameters = {n: p for n, p in model.named_parameters(remove_duplicate=False) if _is_of_variant(n)}
    missing, unknown = {id(p): name for name, p in parameters.items()}, []
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in filter(_is_of_variant, tensors.keys()):
                parameter = parameters.get(name)
                if parameter is None or list(parameter.shape) != tensors.get_slice(name).get_shape():
                    unknown.append(name)
                    continue
                # A copy: in the mapped file a tensor is not aligned, which changes how products are rounded.
                parameter.data = tensors.get_tensor(name).to(parameter.device, copy=True)
                missing.pop(id(parameter), None)
    if unknown or missing:
        wrong = sorted(unknown) + sorted(missing.values())
        raise VariantError(str(folder), "the variants' parameters do not fit the code", wrong[:3])


def _is_of_variant(name: str) -> bool:
    return f".{ATTRIBUTE}." in f".{name}"


def is_saved(folder: str | Path) -> bool:
    """Return whether `folder` has a model written by `save`."""
    path = Path(folder) / "config.json"
    return path.is_file() and KEY in json.loads(path.read_text(encoding="utf-8"))


class OnDemand:
    """The config class that AutoConfig finds for every `attnlab-` type.

    The real classes are made when such a folder is loaded, so that importing this package imports no
    architecture.
    """

    @staticmethod
    def from_dict(values: dict[str, Any], **options: Any) -> PreTrainedConfig:
        """Return the config of a saved model, of the class made for its architecture."""
        record = values[KEY]
        recipe = json.dumps(record["variants"])
        return _classes(record["architecture"], values["model_type"], recipe).from_dict(values, **options)


@functools.cache
def _classes(architecture: str, model_type: str, recipe: str) -> type[PreTrainedConfig]:
    """Make the config and the model class of an export, register them, and return the config class."""
    stock: type[PreTrainedModel] = getattr(transformers, architecture)
    config = export.exported_config_class(export.config_class_of(stock), model_type)
    variants = [(name, options) for name, options in json.loads(recipe)]

    def modeling_source(cls: type[PreTrainedModel]) -> str:
        return export.modeling_source(stock, model_type, variants)

    members = {
        "config_class": config,
        "variant_classes": {name: registry.find(name) for name, _ in variants},
        "auto_map": export.auto_map(stock, model_type),
        "adapters": tuple(adapters.of_class(stock)),
        "modeling_source": classmethod(modeling_source),
        "__module__": __name__,
    }
    model = type(export.PREFIX + architecture, (Restored, stock), members)
    for name in export.auto_classes(stock):
        getattr(transformers, name).register(config, model)
    return config


for _type in list(transformers.CONFIG_MAPPING):
    # Typed as a config class, of which AutoConfig calls only `from_dict`.
    transformers.CONFIG_MAPPING.register(MODEL_TYPE + _type, OnDemand, exist_ok=True)  # type: ignore[arg-type]
