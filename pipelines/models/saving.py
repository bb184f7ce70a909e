"""Save and load the model of a run: a folder loads as exactly the model that was trained, or not at all."""

from __future__ import annotations

from pathlib import Path

import transformers
from safetensors import SafetensorError
from transformers import PreTrainedModel
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

import custom_attention
from custom_attention.permissions import follow_umask
from custom_attention.saving import check_savable, is_saved
from pipelines.distributed.sharding import whole_state
from pipelines.errors import RunFailed, UserError
from pipelines.models.processor import Processor
from pipelines.storage import atomic, reading

CONFIG = "config.json"


class SavedConfig(TypedDict):
    """The part of the config.json of a stock model that says which class it is."""

    architectures: list[str]


def check(model: PreTrainedModel) -> None:
    """Refuse, before training, a model that could not be saved afterwards.

    Raises:
        VariantError: the source of a variant does not run from its one file.
    """
    if _is_changed(model):
        check_savable(model)


def save(model: PreTrainedModel, processor: Processor | None, folder: Path, *, writes: bool) -> None:
    """Write a trained model and its processor; a model with variants is written with their source code.

    A model with stock attention is saved as transformers saves it, after `detach`. A sharded model is
    gathered, so all ranks call this together.

    Args:
        writes: whether this rank writes the files; one rank does.

    Raises:
        RunFailed: the disk is full or cannot be written.
    """
    state = whole_state(model)
    if not writes:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if _is_changed(model):
            custom_attention.save(model, folder, state_dict=state)
        else:
            custom_attention.detach(model)
            model.save_pretrained(folder, state_dict=state)
        save_processor(processor, folder)
        follow_umask(folder)
        for path in folder.iterdir():
            atomic.sync(path)
    except (OSError, SafetensorError) as error:
        raise RunFailed(
            f"{folder}: the trained model could not be written ({error}); its checkpoints are intact. "
            "Free space on that disk and start the same command again."
        ) from error


def save_processor(processor: Processor | None, folder: Path) -> None:
    """Write a model's tokenizer or other processor into its folder; a model of plain numbers has none."""
    if processor is not None:
        processor.save_pretrained(folder)


def load(folder: Path) -> PreTrainedModel:
    """Load the model that `save` wrote, or that was pushed from there, in evaluation mode.

    Its variants are attached, so they can be trained on and folded.

    Raises:
        VariantError: the weights do not fit the variants.
    """
    if is_saved(folder):
        return custom_attention.load(folder)
    fix = "put the file back, or make the model again"
    config: SavedConfig = reading.json_object(folder / CONFIG, fix, SavedConfig)
    [name, *_] = config["architectures"] or [""]
    architecture = getattr(transformers, name, None)
    if not (isinstance(architecture, type) and issubclass(architecture, PreTrainedModel)):
        raise UserError(str(folder / CONFIG), "names no model class of transformers", name, fix)
    model: PreTrainedModel = architecture.from_pretrained(folder)
    return model.eval()


def _is_changed(model: PreTrainedModel) -> bool:
    return any(len(stack) for _, stack in custom_attention.attached(model))
