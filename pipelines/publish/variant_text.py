"""The description of a variant in a card: its equation and explanation, read from its docstring."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.registry import catalog


@dataclass(frozen=True)
class VariantText:
    """A variant with the options that a run chose, its equation and the paragraphs that explain it."""

    name: str
    options: str  # "cap: 7.5, per_head: true"; empty for none
    equation: str
    paragraphs: Sequence[str]


def describe(name: str, options: Mapping[str, object] | None = None) -> VariantText:
    """Return the description of a variant; one that is not found has its name as equation."""
    equation, *paragraphs = _paragraphs(name)
    chosen = ", ".join(f"{key}: {value}" for key, value in (options or {}).items())
    return VariantText(name, chosen, equation, paragraphs)


def describe_all(attention: Sequence[Any]) -> list[VariantText]:
    """Return the description of each variant of a run, as its configuration lists them."""
    return [describe(name, options) for name, options in map(name_and_options, attention)]


def name_and_options(spec: str | Mapping[str, Mapping[str, object]]) -> tuple[str, Mapping[str, object]]:
    """Return the name and the options of an entry of `attention`: a name, or {name: options}."""
    if isinstance(spec, str):
        return spec, {}
    [(name, options)] = spec.items()
    return name, options or {}


def _paragraphs(variant: str) -> list[str]:
    """Return the paragraphs of a variant's docstring, of which the first is its equation."""
    entry, class_name = catalog.find(catalog.VARIANT, variant), variant.partition(":")[2]
    if entry is None:
        return [variant]
    for node in entry.module.tree.body:
        if isinstance(node, ast.ClassDef) and node.bases and class_name in ("", node.name):
            text = ast.get_docstring(node)
            if text:
                return [part.strip() for part in text.partition("Options:")[0].split("\n\n") if part.strip()]
    return [entry.meaning]
