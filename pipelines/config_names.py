"""The names and options of a run, checked against the source they come from."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from pipelines import catalog, source_reader
from pipelines.catalog import CORPUS, TASK, VARIANT, Entry, Kind
from pipelines.config_errors import dotted, perhaps, show
from pipelines.errors import UserError
from pipelines.yaml_source import Document, KeyPath


def unknown_names(document: Document) -> Iterator[UserError]:
    """Everything a run names that does not exist: task, variants, corpus, options, metric, columns."""
    task = yield from _task(document)
    attention = document.get(("attention",))
    for index, value in enumerate(attention if isinstance(attention, list) else ()):
        yield from _variant(document, ("attention", index), value)
    path: KeyPath = ("data", "generated", "name")
    generator = yield from _entry(document, CORPUS, path)
    if generator is not None:
        yield from _options(
            document, generator, path[:-1], document.get((*path[:-1], "options")) or {}, "options"
        )
    if task is not None:
        yield from unknown_metric(document, ("select_by",), task)
        yield from _columns(document, task)


def _task(document: Document):
    task = yield from _entry(document, TASK, ("task", "name"))
    if task is not None:
        values = {key: value for key, value in document.get(("task",)).items() if key != "name"}
        yield from _options(document, task, ("task",), values)
    return task


def _variant(document: Document, path: KeyPath, value: object) -> Iterator[UserError]:
    if isinstance(value, dict) and len(value) == 1:
        [(name, options)] = value.items()
        entry = yield from _known(document, VARIANT, (*path, name), name)
        if entry is not None:
            yield from _options(document, entry, path, options if options is not None else {}, name)
    elif isinstance(value, str):
        entry = yield from _known(document, VARIANT, path, value)
        if entry is not None:
            yield from _options(document, entry, path, {})


def _entry(document: Document, kind: Kind, path: KeyPath):
    name = document.get(path)
    if not isinstance(name, str) or not name:
        return None
    return (yield from _known(document, kind, path, name))


def _known(document: Document, kind: Kind, path: KeyPath, name: str):
    where = document.place(path).where
    try:
        entry = catalog.find(kind, name)
    except UserError as error:
        yield error
        return None
    if entry is None:
        known = perhaps(name, catalog.names(kind), {"corpus": "corpora"}.get(kind.word, f"{kind.word}s"))
        if kind is VARIANT and ":" in name:
            known = "package.module:Class must be importable from here"
        yield UserError(where, f"unknown {kind.word} {name!r}", accepted=known)
    return entry


def _options(
    document: Document, entry: Entry, path: KeyPath, values: object, *below: str
) -> Iterator[UserError]:
    """What is wrong with the options given to an entry at `path` (its options stand at `path + below`)."""
    at = (*path, *below)
    if not isinstance(values, dict):
        what = f"the options of {entry.name} must be a mapping"
        yield UserError(
            document.place(at).where, what, show(values), f"write {{{entry.name}: {{option: value}}}}"
        )
        return
    known = {option.name: option for option in entry.options}
    for name, value in values.items():
        where = document.place((*at, name)).where
        if name not in known:
            accepted = (
                perhaps(name, known, f"options of {entry.name}")
                if known
                else f"{entry.name} takes no options"
            )
            yield UserError(
                where, f"unknown option {name!r} of {entry.kind.word} {entry.name}", accepted=accepted
            )
        elif not source_reader.fits(value, known[name].annotation, entry.module):
            yield _bad_value(where, entry, known[name], value)
    for option in entry.options:
        if option.is_required and option.name not in values:
            what = f"{entry.kind.word} {entry.name} needs the option {option.name}"
            yield UserError(document.place(at).where, what, accepted=f"its options: {option}")


def _bad_value(where: str, entry: Entry, option: source_reader.Option, value: object) -> UserError:
    choices = source_reader.choices(option.annotation, entry.module)
    accepted = f"accepted: {option}" if not choices else f"accepted: {', '.join(map(str, choices))}"
    near = (
        difflib.get_close_matches(value, [c for c in choices if isinstance(c, str)], 1)
        if isinstance(value, str)
        else []
    )
    if near:
        accepted = f"perhaps {near[0]} was meant; {accepted}"
    return UserError(
        where, f"{option.name} of {entry.kind.word} {entry.name} cannot be this", show(value), accepted
    )


def unknown_metric(document: Document, path: KeyPath, task: Entry) -> Iterator[UserError]:
    """The metric named at `path`, when it is none of the task's."""
    name, known = document.get(path), task.attributes.get("metric_names")
    if isinstance(name, str) and known and name not in known:
        what = f"{dotted(path)}: unknown metric {name!r} of task {task.name}"
        yield UserError(document.place(path).where, what, accepted=perhaps(name, known, "metrics"))


def _columns(document: Document, task: Entry) -> Iterator[UserError]:
    columns, known = document.get(("data", "columns")), task.attributes.get("columns")
    if not isinstance(columns, dict) or not isinstance(known, dict):
        return
    names = [*known, "id", "cluster"]
    for name in columns:
        if name not in names:
            where = document.place(("data", "columns", name)).where
            accepted = perhaps(name, names, f"columns of task {task.name}")
            yield UserError(where, f"unknown column {name!r} of task {task.name}", accepted=accepted)
