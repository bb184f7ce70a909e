"""Architectures without the seam: one file each, named as their package in transformers.

A file is read when a model of that package is attached to.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from torch import nn

from custom_attention.runtime.adapter import Adapter

_FILES = frozenset(module.name for module in pkgutil.iter_modules(__path__))


def file_of(cls: type[nn.Module]) -> ModuleType | None:
    """Return the file for a class of transformers, or None where its package has none."""
    parts = cls.__module__.split(".")
    if parts[:2] != ["transformers", "models"] or parts[2] not in _FILES:
        return None
    return importlib.import_module(f"{__name__}.{parts[2]}")


def of(model: nn.Module) -> list[type[Adapter]]:
    """Return the adapters for the attention modules of a model."""
    files = {file_of(cls) for cls in {type(module) for module in model.modules()}}
    return [adapter for file in files if file is not None for adapter in _adapters_in(file)]


def of_class(cls: type[nn.Module]) -> list[type[Adapter]]:
    """Return the adapters in the file for a class of transformers."""
    file = file_of(cls)
    return [] if file is None else _adapters_in(file)


def _adapters_in(file: ModuleType) -> list[type[Adapter]]:
    return [
        found
        for found in vars(file).values()
        if isinstance(found, type) and issubclass(found, Adapter) and found.__module__ == file.__name__
    ]
