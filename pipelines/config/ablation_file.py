"""The parts of an ablation file: short forms, files of the cells, a cell merged with an arm, own mistakes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from pipelines.config.checks import expanded as expanded_run
from pipelines.config.checks import resolve_paths
from pipelines.config.names import unknown_metric
from pipelines.config.run import TaskSpec
from pipelines.config.suggestions import perhaps
from pipelines.config.yaml_source import Document, KeyPath, Place, merge
from pipelines.errors import UserError
from pipelines.registry import catalog

ONLY_IN_FILES = {"cells", "set", "paper", "scales", "scale"}  # a resolved ablation has its cells, and no more
BY_NAME = ("cells", "arms", "primary", "margin")
ASSAY = "assay"  # the name of a planted arm that is stated under `assay:`


def names(document: Document, section: str) -> list[str]:
    """Return the names in a section of the file; none where the section is not a mapping."""
    value = document.get((section,))
    return list(value) if isinstance(value, dict) else []


def items(document: Document, path: KeyPath) -> list[Document]:
    """Return the items of the list at `path`; none where it is not a list."""
    value = document.get(path)
    return [document.part((*path, index)) for index in range(len(value))] if isinstance(value, list) else []


def expanded(document: Document) -> Document:
    """Return the file with its short forms expanded, and with existing paths in every `set` absolute."""
    if isinstance(document.get(("assay",)), dict | list) and isinstance(document.get(("arms",)), dict):
        document = _with_assay(document)
    for name in names(document, "arms"):
        path: KeyPath = ("arms", name)
        if isinstance(document.get(path), str | list):
            document = document.replaced(path, document.part(path).under("attention"))
        if isinstance(document.get((*path, "attention")), str | dict):
            document = document.replaced((*path, "attention"), document.part((*path, "attention")).under(0))
    for name in names(document, "cells"):
        if isinstance(document.get(("cells", name)), str | dict):
            document = document.replaced(("cells", name), document.part(("cells", name)).under(0))
    sets: list[KeyPath] = [("set",), *(("arms", name, "set") for name in names(document, "arms"))]
    for path in sets:
        if isinstance(document.get(path), dict):
            document = document.replaced(path, resolve_paths(expanded_run(document.part(path)))[0])
    return document


def at_scale(document: Document, overrides: Sequence[Document]) -> Document:
    """Return the file with the sections that its chosen scale replaces.

    Args:
        overrides: of the command line, where `scale=NAME` chooses, too.

    Raises:
        UserError: the file has no such scale.
    """
    chosen = [part for part in (document, *overrides) if part.get(("scale",)) is not None]
    if not chosen:
        return document
    name, known = chosen[-1].get(("scale",)), names(document, "scales")
    if name not in known:
        where, fix = chosen[-1].place(("scale",)).where, perhaps(str(name), known, "scales")
        raise UserError(where, f"the file has no scale {name!r}", accepted=fix)
    for section in document.get(("scales", name)) or {}:
        if section in document.value:
            document = document.replaced((section,), Document(None, {(): document.place((section,))}))
        document = merge([document, document.part(("scales", name, section)).under(section)])
    return document


def overridden(document: Document, override: Document) -> Document:
    """Return the file merged with an override; one of all arms, `arms={...}`, replaces those of the file."""
    name = replaced_by(override)
    if name is not None and isinstance(document.get((name,)), dict):
        document = document.replaced((name,), Document({}, {(): document.place((name,))}))
    return merge([document, override])


def replaced_by(override: Document) -> str | None:
    """Return the mapping of names (arms, cells, primary, margin) that an override gives as a whole."""
    key = override.place().name.partition("=")[0]
    return key if key in BY_NAME and isinstance(override.get((key,)), dict) else None


def _with_assay(document: Document) -> Document:
    """Return the file with the planted arm among the others, and its name in its place."""
    if ASSAY in names(document, "arms"):
        what = f"there is an arm of the name {ASSAY}, which the planted arm takes"
        raise UserError(document.place(("arms", ASSAY)).where, what, accepted="give that arm another name")
    planted = document.part(("assay",)).under(ASSAY)
    named = document.replaced(("arms",), merge([document.part(("arms",)), planted]))
    return named.replaced(("assay",), Document(ASSAY, {(): document.place(("assay",))}))


def cell_file(place: Place, text: str) -> str:
    """Return the path of the run file that a cell names, which is relative to the file of the ablation."""
    if place.line is None or os.path.isabs(text):
        return text
    return os.path.normpath(os.path.join(os.path.dirname(place.name), os.path.expanduser(text)))


def misplaced_in_cell(base: Document) -> list[UserError]:
    """Return an error for attention in a cell, which arms set, and for hub, which is for one run."""
    errors = []
    if base.get(("attention",)):
        what, fix = "a cell sets attention, which its arms decide", "move it to arms"
        errors.append(UserError(base.place(("attention",)).where, what, accepted=fix))
    if base.get(("hub",)) is not None:
        what, fix = "a cell sets hub, which is for one run", "use attnlab push when the ablation is finished"
        errors.append(UserError(base.place(("hub",)).where, what, accepted=fix))
    return errors


def merged_with_arm(base: Document, document: Document, arm: str) -> Document:
    """Return a cell merged with an arm, to be checked; `AblationConfig.run_config` makes the run itself."""
    path: KeyPath = ("arms", arm)
    layers = [base]
    if isinstance(document.get((*path, "set")), dict):
        layers.append(document.part((*path, "set")))
    for key in ("where", "attention"):
        if document.get((*path, key)) is not None:
            layers.append(document.part((*path, key)).under(key))
    return merge(layers)


def own_errors(document: Document) -> list[UserError]:
    """Return the mistakes of the file as an ablation, apart from those of its runs."""
    errors: list[UserError] = []
    arms, baseline = names(document, "arms"), document.get(("baseline",), "stock")
    if arms and isinstance(baseline, str) and baseline not in arms:
        where, accepted = document.place(("baseline",)).where, perhaps(baseline, arms, "arms")
        errors.append(UserError(where, f"the baseline {baseline!r} is not an arm", accepted=accepted))
    assay = document.get(("assay",))
    if arms and isinstance(assay, str) and (assay not in arms or assay == baseline):
        where, others = document.place(("assay",)).where, [arm for arm in arms if arm != baseline]
        what = f"the assay {assay!r} is " + ("the baseline" if assay == baseline else "not an arm")
        errors.append(UserError(where, what, accepted=perhaps(assay, others, "arms")))
    seeds = document.get(("seeds",))
    if isinstance(seeds, list):
        for index, seed in enumerate(seeds):
            if seed in seeds[:index]:
                where = document.place(("seeds", index)).where
                errors.append(
                    UserError(where, f"the seed {seed!r} is in seeds twice", accepted="name each seed once")
                )
    most = document.get(("stopping", "most_seeds"))
    if isinstance(seeds, list) and isinstance(most, int) and most < len(seeds):
        where, what = document.place(("stopping", "most_seeds")).where, f"is less than the {len(seeds)} seeds"
        errors.append(UserError(where, f"most_seeds {what}", str(most), "name fewer seeds to begin with"))
    settings: list[KeyPath] = [("set",), *(("arms", arm, "set") for arm in arms)]
    for path in settings:
        errors += _misplaced(document, path)
    return errors


def unknown_metrics(document: Document, cells: Sequence[TaskSpec]) -> Iterator[UserError]:
    """Yield an error for each primary metric that a cell does not report, and each margin that none reports.

    Args:
        cells: the task section of each cell.
    """
    tasks = sorted({cell.name for cell in cells})
    entries = {name: catalog.find(catalog.TASK, name) for name in tasks}
    reported = [
        (cell.name, catalog.metric_names(entry, cell.options))
        for cell in cells
        if (entry := entries[cell.name])
    ]
    for task in names(document, "primary"):
        path: KeyPath = ("primary", task)
        if task not in entries:
            accepted = perhaps(task, tasks, "tasks of the cells")
            yield UserError(document.place(path).where, f"no cell has the task {task!r}", accepted=accepted)
        elif entry := entries[task]:
            of_cells = [metrics for name, metrics in reported if name == task]
            of_all = [metric for metric in of_cells[0] if all(metric in metrics for metrics in of_cells)]
            yield from unknown_metric(document, path, entry, of_all)
    if all(metrics for _, metrics in reported):
        known = sorted({metric for _, metrics in reported for metric in metrics})
        stated = [(one, name) for one in ("margin", "collapse") for name in names(document, one)]
        for section, metric in stated:
            if metric not in known:
                where = document.place((section, metric)).where
                yield UserError(
                    where,
                    f"{section} for an unknown metric {metric!r}",
                    accepted=perhaps(metric, known, "metrics"),
                )


def _misplaced(document: Document, path: KeyPath) -> list[UserError]:
    better = {"seed": "seeds", "attention": "arms"} | (
        {"where": f"arms.{path[1]}.where", "hub": "attnlab push"} if len(path) > 1 else {}
    )
    return [
        UserError(
            document.place((*path, key)).where, f"{key} cannot be in set", accepted=f"use {better[key]}"
        )
        for key in better
        if document.get((*path, key)) is not None
    ]
