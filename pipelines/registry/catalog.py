"""The catalog of variants, tasks, metrics and corpora: what exists and its options, read from source."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipelines.errors import UserError
from pipelines.registry import source
from pipelines.registry.source import Module, Option


@dataclass(frozen=True)
class EntryKind:
    """A kind of entry: one per file of a folder, as a subclass of `root`, or as the function `generate`."""

    word: str
    package: str
    folder: str
    root: str | None  # the module of the base class; None: an entry is the function `generate`
    not_options: frozenset[str]  # arguments that a user cannot set


VARIANT_CONTRACT = "custom_attention.variant"
VARIANT = EntryKind("variant", "custom_attention", "variants", VARIANT_CONTRACT, frozenset({"self", "site"}))
TASK = EntryKind("task", "pipelines", "tasks", "pipelines.tasks.base", frozenset({"self"}))
METRIC = EntryKind("metric", "pipelines", "metrics", "pipelines.metrics.base", frozenset({"self"}))
CORPUS = EntryKind("corpus", "pipelines", "corpora", None, frozenset({"num_examples", "seed", "split"}))


@dataclass(frozen=True)
class Entry:
    """One variant, task, metric or corpus, read from its source."""

    kind: EntryKind
    name: str
    module: Module
    meaning: str
    options: tuple[Option, ...]
    attributes: Mapping[str, Any]
    methods: frozenset[str]
    has_parameters: bool = False  # of a variant: whether its constructor builds parameters or layers of torch

    @property
    def hooks(self) -> frozenset[str]:
        """The hooks of attention that a variant overrides."""
        return self.methods & (_contract("KERNEL_HOOKS") | _contract("SCORE_HOOKS"))

    @property
    def path(self) -> str:
        """The implementation that a variant runs on: "kernel" (the model's own), "explicit", or its "own"."""
        if self.hooks & _contract("SCORE_HOOKS"):
            return "explicit"
        return "own" if "attend" in self.hooks else "kernel"

    @property
    def is_foldable(self) -> bool:
        """Whether a variant can be folded into a plain checkpoint: it overrides constant gains only."""
        return self.hooks <= _contract("FOLDABLE_HOOKS")

    @property
    def starts_as_stock(self) -> str:
        """Whether a variant equals stock before training: "yes", "no", or the option that decides."""
        declared = self.attributes.get("starts_as_stock", True)
        if isinstance(declared, dict):
            return f"by {', '.join(declared)}"
        return "yes" if declared else "no"


def families(task: Entry) -> list[str]:
    """Return the model families that can learn a task, from the table of `models/build.py`."""
    table = source.require("pipelines.models.build").constant("MODEL_CLASSES") or {}
    return [family for head, family in table if head == task.attributes.get("head")]


def metric_names(task: Entry, given: Mapping[str, object]) -> list[str]:
    """Return the metrics that a task reports when built with the options `given`, as `Task.metrics` does."""
    values = _option_values(task, given)
    optional = task.attributes.get("optional_metrics") or {}
    chosen = [names for option, names in optional.items() if values.get(option) is True]
    main = _chosen_by(task, "metrics_by", task.attributes.get("metric_names") or (), values)
    return [name for names in (main, *chosen) for name in names]


def loss_settings(task: Entry, given: Mapping[str, object]) -> Sequence[str]:
    """Return the settings of a run that change the loss and that a task honours with the options `given`."""
    stated = task.attributes.get("loss_settings") or ()
    return _chosen_by(task, "loss_settings_by", stated, _option_values(task, given))


def _option_values(task: Entry, given: Mapping[str, object]) -> dict[str, object]:
    return {option.name: option.default for option in task.options} | dict(given)


def _chosen_by(
    task: Entry, attribute: str, main: Sequence[str], values: Mapping[str, object]
) -> Sequence[str]:
    """Return the names that the values of options decide by a table of the task; else `main`."""
    for option, by_value in (task.attributes.get(attribute) or {}).items():
        value = values.get(option)  # a list is refused elsewhere
        main = by_value.get(value, main) if isinstance(value, Hashable) else main
    return main


def _contract(name: str) -> frozenset[str]:
    """A set of hooks that the contract of variants names."""
    return frozenset(source.require(VARIANT_CONTRACT).constant(name) or ())


def names(kind: EntryKind) -> list[str]:
    """Return the names of a kind: files of its folder that define an entry or are not valid Python, and the
    variants of installed packages."""
    package = source.find_module(kind.package)
    files = sorted((package.parent / kind.folder).glob("*.py")) if package else []
    own = [file.stem for file in files if not file.stem.startswith("_") and _defines(kind, file.stem)]
    return own + sorted(_installed(kind).keys() - set(own))


def _installed(kind: EntryKind) -> dict[str, str]:
    """Variants of installed packages (entry points): name -> `package.module:Class`; nothing is imported."""
    if kind is not VARIANT:
        return {}
    group = source.require("custom_attention.registry").constant("ENTRY_POINTS")
    return {point.name: point.value for point in importlib.metadata.entry_points(group=group)}


def _defines(kind: EntryKind, name: str) -> bool:
    dotted = f"{kind.package}.{kind.folder}.{name}"
    if dotted == kind.root:
        return False
    try:
        module = source.module(dotted)
    except SyntaxError:
        return True  # listed, so that a user who names it gets the syntax error
    if module is None:
        return False
    return "generate" in module.functions if kind.root is None else bool(_chains(kind, module, ""))


def find(kind: EntryKind, name: str) -> Entry | None:
    """Return the entry of a name, or None; a variant may also be `package.module:Class` or an entry point.

    Raises:
        UserError: its file is not valid Python, or does not define exactly one class or function of its kind.
    """
    module_name, colon, class_name = name.partition(":")
    if colon and kind is not VARIANT:
        return None
    try:
        module = source.module(module_name if colon else f"{kind.package}.{kind.folder}.{name}")
        if module is None or module.name == kind.root:
            return None if colon else _find_installed(kind, name)
        return _corpus(name, module) if kind.root is None else _class(kind, name, module, class_name)
    except SyntaxError as error:
        raise source.not_python(error) from None


def _find_installed(kind: EntryKind, name: str) -> Entry | None:
    value = _installed(kind).get(name)
    if value is None:
        return None
    entry = find(kind, value)
    if entry is None:
        raise UserError(name, "the entry point of this variant names no class", value, "package.module:Class")
    return replace(entry, name=name)


def _corpus(name: str, module: Module) -> Entry:
    function = module.functions.get("generate")
    if function is None:
        raise UserError(str(module.file), "defines no function generate(num_examples, seed, split)")
    options, _ = source.options(function, module, CORPUS.not_options, source.argument_meanings(function))
    return Entry(CORPUS, name, module, source.meaning(module.tree), tuple(options), {}, frozenset())


def _class(kind: EntryKind, name: str, module: Module, class_name: str) -> Entry | None:
    if class_name and class_name not in module.classes:
        return None
    chains = _chains(kind, module, class_name)
    if len(chains) != 1:
        came = ", ".join(chains) or "none"
        raise UserError(
            str(module.file), f"must define exactly one {kind.word} class", came, f"see {kind.root}"
        )
    [chain] = chains.values()
    attributes: dict[str, Any] = {}
    methods: set[str] = set()
    for ancestor in reversed(chain):
        attributes |= source.attributes(ancestor.node)
        methods |= source.methods(ancestor.node).keys()
    options = _options(chain, kind)
    has_parameters = any(source.builds_parameters(ancestor) for ancestor in chain)
    meaning = source.meaning(chain[0].node if class_name else module.tree)
    return Entry(kind, name, module, meaning, options, attributes, frozenset(methods), has_parameters)


def _chains(kind: EntryKind, module: Module, class_name: str) -> dict[str, list[source.Ancestor]]:
    """The public subclasses of the kind's base in a file, each with its ancestors below that base."""
    chains = {
        name: list(source.ancestry(module, name))
        for name in ([class_name] if class_name else module.classes)
        if not name.startswith("_")
    }
    return {
        name: [one for one in chain if one.module.name != kind.root]
        for name, chain in chains.items()
        if any(one.module.name == kind.root for one in chain)
    }


def _options(chain: list[source.Ancestor], kind: EntryKind) -> tuple[Option, ...]:
    """The options of the nearest constructor, and of those that it passes `**options` on to."""
    found: dict[str, Option] = {}
    for ancestor in chain:
        constructor = source.methods(ancestor.node).get("__init__")
        if constructor is None:
            continue
        meanings = source.argument_meanings(ancestor.node) | source.argument_meanings(constructor)
        options, passes_on = source.options(constructor, ancestor.module, kind.not_options, meanings)
        for option in options:
            found.setdefault(option.name, option)
        if not passes_on:
            break
    return tuple(found.values())
