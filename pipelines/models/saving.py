"""The model of a run on disk: a folder that loads as the model that was trained, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError

import custom_attention
from custom_attention.saving import check_savable, is_saved
from pipelines.distributed.sharding import whole_state
from pipelines.errors import RunFailed
from pipelines.storage import atomic

CONFIG = "config.json"


def check(model: torch.nn.Module) -> None:
    """Refuse, before it is trained, a model that could not be saved afterwards.

    Raises:
        VariantError: the source of a variant cannot stand alone in one file.
    """
    if _is_changed(model):
        check_savable(model)


def save(model: torch.nn.Module, processor: Any, folder: Path, *, writes: bool) -> None:
    """Write a trained model and its processor: stock as transformers has it, else with its own code.

    A sharded model is gathered: all ranks call this together, and one of them `writes`. Stock attention loses
    the dispatcher that it was trained through.

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
            custom_attention.detach(model).save_pretrained(folder, state_dict=state)
        save_processor(processor, folder)
        for path in folder.iterdir():
            atomic.sync(path)
    except (OSError, SafetensorError) as error:
        raise RunFailed(
            f"{folder}: the trained model could not be written ({error}); its checkpoints are intact. "
            "Free space on that disk and start the same command again."
        ) from error


def save_processor(processor: Any, folder: Path) -> None:
    """Put a model's tokenizer or other processor beside it; a model that reads plain numbers has none."""
    if processor is not None:
        processor.save_pretrained(folder)


def load(folder: Path) -> torch.nn.Module:
    """The model that `save` wrote, or that was pushed from there, its attention live; in evaluation mode.

    Raises:
        VariantError: the weights do not fit the variants.
    """
    if is_saved(folder):
        return custom_attention.load(folder)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    return getattr(transformers, config["architectures"][0]).from_pretrained(folder).eval()


def is_there(folder: Path) -> bool:
    """Whether a model was kept in a folder."""
    return (folder / CONFIG).is_file()


def _is_changed(model: torch.nn.Module) -> bool:
    return any(len(stack) for _, stack in custom_attention.attached(model))
