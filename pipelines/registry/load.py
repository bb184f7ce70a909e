"""Import the class that a task's or a metric's file defines."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def load_class(module: str, base: type) -> type[Any]:
    """Return the one class derived from `base` that a module defines itself (imported classes do not count).

    Raises:
        TypeError: the module defines none, or several.
    """
    found = [
        value
        for value in vars(import_module(module)).values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module
    ]
    if len(found) != 1:
        raise TypeError(f"{module} must define one {base.__name__} class, it defines {len(found)}")
    return found[0]
