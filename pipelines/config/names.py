"""The names and options of a run, checked against the source files that define them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipelines.config import known_names
from pipelines.config.model_entries import architectures
from pipelines.config.options import wrong_options
from pipelines.config.schema_tree import dotted
from pipelines.config.suggestions import one_of, perhaps, show
from pipelines.config.yaml_source import Document, KeyPath
from pipelines.errors import UserError
from pipelines.registry import catalog
from pipelines.registry.catalog import CORPUS, TASK, VARIANT, Entry, EntryKind


def unknown_names(document: Document) -> list[UserError]:
    """Return an error for each unknown task, variant, corpus, option, metric, column and model of a run."""
    names = _Names(document)
    task = names.entry(TASK, ("task", "name"))
    if task is not None:
        given = {key: value for key, value in document.get(("task",)).items() if key != "name"}
        names.options(task, ("task",), given)
        names.columns(task)
        names.family(task)
        names.loss_settings(task, given)
        names.errors += unknown_metric(document, ("select_by",), task, catalog.metric_names(task, given))
    generated: KeyPath = ("data", "generated")
    corpus = names.entry(CORPUS, (*generated, "name"))
    if corpus is not None:
        names.options(corpus, (*generated, "options"), document.get((*generated, "options"), {}))
    attention = document.get(("attention",))
    for index, value in enumerate(attention if isinstance(attention, list) else ()):
        names.variant(("attention", index), value)
    names.architecture()
    return names.errors


def unknown_metric(document: Document, path: KeyPath, task: Entry, known: Sequence[str]) -> list[UserError]:
    """Return an error when the metric named at `path` is none of those that the task reports."""
    name = document.get(path)
    if not isinstance(name, str) or not known or name in known:
        return []
    what = f"{dotted(path)}: unknown metric {name!r} of task {task.name}"
    return [UserError(document.place(path).where, what, accepted=perhaps(name, known, "metrics"))]


class _Names:
    """Looks up the names in a document and collects the unknown ones as errors."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.errors: list[UserError] = []

    def refuse(self, path: KeyPath, what: str, came: str | None = None, accepted: str | None = None) -> None:
        self.errors.append(UserError(self.document.place(path).where, what, came, accepted))

    def entry(self, kind: EntryKind, path: KeyPath) -> Entry | None:
        """The entry named at `path`; None where there is no name (the schema reports it) or no such entry."""
        name = self.document.get(path)
        return self.known(kind, name, path) if isinstance(name, str) and name else None

    def known(self, kind: EntryKind, name: str, path: KeyPath) -> Entry | None:
        try:
            found = catalog.find(kind, name)
        except UserError as error:
            self.errors.append(error)
            return None
        if found is None:
            accepted = perhaps(name, catalog.names(kind), kind.folder)
            if kind is VARIANT and ":" in name:
                accepted = "package.module:Class must be importable from here"
            self.refuse(path, f"unknown {kind.word} {name!r}", accepted=accepted)
        return found

    def variant(self, path: KeyPath, value: object) -> None:
        if isinstance(value, dict) and len(value) == 1:
            [(name, given)] = value.items()
            path = (*path, name)
        else:
            name, given = value, None
        found = self.known(VARIANT, name, path) if isinstance(name, str) else None
        if found is not None:
            self.options(found, path, {} if given is None else given)

    def options(self, entry: Entry, path: KeyPath, given: object) -> None:
        """Check the options given to an entry; they stand below `path`."""
        if not isinstance(given, Mapping):
            example = f"write {{{entry.name}: {{option: value}}}}"
            self.refuse(path, f"the options of {entry.name} must be a mapping", show(given), example)
            return
        for wrong in wrong_options(entry, given):
            below = () if wrong.name is None else (wrong.name,)
            place = (*path, *below)
            self.refuse(place, wrong.what, wrong.came, self._elsewhere(entry, place) or wrong.accepted)

    def _elsewhere(self, entry: Entry, path: KeyPath) -> str | None:
        """Return what to write for an unknown option that is a setting of other programs, or of a run."""
        if entry.kind is not TASK or path[-1] in {"task", *(option.name for option in entry.options)}:
            return None
        return known_names.answer(self.document, path)

    def columns(self, task: Entry) -> None:
        given, columns = self.document.get(("data", "columns")), task.attributes.get("columns")
        known = [*(columns if isinstance(columns, dict) else ()), "id", "cluster"]
        for name in given if isinstance(given, dict) and columns else ():
            if name not in known:
                what = f"unknown column {name!r} of task {task.name}"
                accepted = perhaps(name, known, f"columns of task {task.name}")
                self.refuse(("data", "columns", name), what, accepted=accepted)

    def family(self, task: Entry) -> None:
        """Refuse a task that models of the chosen family cannot learn."""
        path: KeyPath = ("model", "family")
        family, families = self.document.get(path), catalog.families(task)
        if families and isinstance(family, str) and family not in families:
            what = f"task {task.name} has no model of family {family}"
            self.refuse(path, what, accepted=one_of(None, families))

    def loss_settings(self, task: Entry, given: Mapping[str, object]) -> None:
        """Refuse a setting of the loss that the task does not honour."""
        honoured = catalog.loss_settings(task, given)
        options = [f" with {name} {given[name]}" for name in task.attributes.get("loss_settings_by") or {}
                   if name in given]  # fmt: skip
        for name in ("label_smoothing", "class_weights"):
            if self.document.get((name,)) not in (None, 0) and name not in honoured:
                what = f"{name} does nothing in task {task.name}{''.join(options)}"
                self.refuse((name,), what, accepted="leave it out")

    def architecture(self) -> None:
        """Refuse a model_type that the installed transformers does not list."""
        path: KeyPath = ("model", "architecture")
        name, known = self.document.get(path), architectures()
        if isinstance(name, str) and name and known and name not in known:
            accepted = perhaps(name, known, "model types", otherwise="a model_type of transformers")
            self.refuse(path, f"unknown architecture {name!r}", accepted=accepted)
