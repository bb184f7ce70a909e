"""Names that people know from transformers, and what they are here: the table is `known_names.yaml`.

python -m pipelines.config.known_names      writes docs/names.md from it
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from pipelines.config import yaml_source
from pipelines.config.run import RunConfig
from pipelines.config.schema_tree import dotted, field_at
from pipelines.config.yaml_source import Document, KeyPath
from pipelines.errors import UserError
from pipelines.registry import catalog, option_types
from pipelines.registry.catalog import Entry

TABLE = Path(__file__).with_suffix(".yaml")
PAGE = Path(__file__).parents[2] / "docs" / "names.md"
AS_IT_CAME = object()


@dataclass(frozen=True)
class KnownName:
    """What a name is here; the keys are explained at the top of the table."""

    write: tuple[KeyPath, ...] = ()
    value: object = AS_IT_CAME
    values: Mapping[str, KnownName] = field(default_factory=dict)
    times: tuple[str, ...] = ()
    strip: str = ""
    flag: str = ""
    note: str = ""


@dataclass(frozen=True)
class _Setting:
    """A setting or option that the run at hand has, and the values that it accepts."""

    path: KeyPath
    meaning: str
    hint: Any  # a type, as annotated
    is_option: bool

    @property
    def explained(self) -> str:
        """The meaning, with the words that are accepted."""
        words = ", ".join(map(str, option_types.choices(self.hint)))
        return f"{self.meaning}: {words}" if words else self.meaning

    def accepts(self, value: object) -> bool:
        if self.is_option:
            return option_types.fits(value, self.hint)
        try:
            TypeAdapter(self.hint, config=ConfigDict(strict=True)).validate_python(value)
        except ValidationError:
            return False
        return True


@cache
def table() -> Mapping[str, Mapping[str, KnownName]]:
    """Return the rows of the table by section and name."""
    read: dict[str, dict[str, Any]] = yaml_source.read(TABLE).value
    return {
        section: {name: _row(entries) for name, entries in names.items()} for section, names in read.items()
    }


def row_of(name: str) -> KnownName | None:
    """Return the row of a name; None where the table does not know it."""
    return next((rows[name] for rows in table().values() if name in rows), None)


def answer(document: Document, path: KeyPath, below: str | None = None) -> str | None:
    """Return what to write in place of an unknown key, or why there is no such setting; None if unknown.

    Args:
        path: that of the key.
        below: the key of the document under which the settings of a run are, as `set` in an ablation.
    """
    name, came = str(path[-1]), document.get(path)
    row = row_of(name)
    if row is None:
        return None
    row = row.values.get(str(came).lower(), row)
    if row.flag:
        text = f"write {row.flag}{f' {came}' if row.flag == '--out' else ''} on the command line"
        return _noted(text, row.note)
    if not row.write:
        return row.note
    setting = _first_known(row.write, document)
    if setting is None:
        return f"this task has none ({' or '.join(map(dotted, row.write))})"
    value = _value(row, came, document, path)
    place = document.place(path)
    # An override is also read as a part of an ablation: set.fp16=true is fp16 of the cells.
    above = place.name.partition("=")[0].split(".")[: -len(path)] if place.line is None else []
    target = (*above, *([below] if below else []), *setting.path)
    if not setting.accepts(value):
        return _noted(f"write {dotted(target)}", setting.explained)
    return _noted(f"write {_written(target, value, place.line is None)}", row.note)


def for_value(document: Document, path: KeyPath) -> str | None:
    """Return what to write in place of a value that transformers knows and the same setting here refuses."""
    row = row_of(str(path[-1])) if len(path) == 1 else None
    is_known = row is not None and str(document.get(path)).lower() in row.values
    return answer(document, path) if is_known else None


def _row(entries: Mapping[str, Any]) -> KnownName:
    given = dict(entries)
    write = given.pop("write", ())
    paths = tuple(tuple(one.split(".")) for one in ([write] if isinstance(write, str) else write))
    values = {value: _row(row) for value, row in given.pop("values", {}).items()}
    return replace(KnownName(write=paths, values=values), **given)


def _task(document: Document) -> Entry | None:
    name = document.get(("task", "name"))
    try:
        return catalog.find(catalog.TASK, name) if isinstance(name, str) else None
    except UserError:  # reported where the task is checked
        return None


def _first_known(paths: tuple[KeyPath, ...], document: Document) -> _Setting | None:
    task = _task(document)
    found = (_setting(path, task, document) for path in paths)
    return next((setting for setting in found if setting is not None), None)


def _setting(path: KeyPath, task: Entry | None, document: Document) -> _Setting | None:
    """Return the setting at a path; without a task, every option, column and metric is taken to exist."""
    if path[0] == "task":
        if task is None:
            return _Setting(path, "an option of the task", Any, True)
        option = next((one for one in task.options if one.name == path[1]), None)
        return _Setting(path, option.meaning.rstrip("."), option.hint, True) if option else None
    if path[:2] == ("data", "columns"):
        columns = task.attributes.get("columns") if task else None
        return (
            _Setting(path, "a column of the task", str, True) if not columns or path[2] in columns else None
        )
    if path == ("select_by",) and task is not None:
        metrics = tuple(catalog.metric_names(task, document.get(("task",))))
        return _Setting(path, "a metric of the task", Literal[metrics], True)
    found = field_at(RunConfig, path)
    assert found is not None, f"the table names {dotted(path)}, which is no setting"
    return _Setting(path, found.description or "", Annotated[found.annotation, found], False)


def _value(row: KnownName, came: object, document: Document, path: KeyPath) -> object:
    """Return the value to write: as it came, or in the terms of attnlab."""
    if row.value is not AS_IT_CAME:
        return row.value
    if isinstance(came, str):
        return came.removeprefix(row.strip)
    if isinstance(came, float) and came.is_integer():
        came = int(came)
    if type(came) is int:
        for other in row.times:
            factor = document.get((*path[:-1], other))
            came *= factor if type(factor) is int else 1
    return came


def _written(path: KeyPath, value: object, is_override: bool) -> str:
    """Return a setting as YAML, or as an override of the command line."""
    if is_override:
        return shlex.quote(f"{dotted(path)}={_flow(value)}")
    for key in reversed(path[1:]):
        value = {key: value}
    return f"{path[0]}: {_flow(value)}"


def _flow(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False)
    return text.strip().removesuffix("...").strip()


def _noted(text: str, note: str) -> str:
    return f"{text} ({note})" if note else text


# ---- the page
def page() -> str:
    """Return docs/names.md."""
    lines = [
        "# Names that you know",
        "",
        "Settings of transformers' `TrainingArguments` and of its example scripts (`run_ner.py`, ...),",
        "and what they are here. `attnlab train my.yaml fp16=true` and `--fp16` answer the same: `write",
        "precision=bfloat16`. `attnlab init` prints every setting that there is, with its meaning.",
    ]
    for section, rows in table().items():
        lines += ["", f"## {section}", "", "| there | here | |", "|---|---|---|"]
        lines += [f"| `{name}` | {_here(row)} | {_explained(row)} |" for name, row in rows.items()]
    return "\n".join(lines) + "\n"


def _here(row: KnownName) -> str:
    if row.flag:
        return f"`{row.flag}`"
    settings = [
        f"`{dotted(path)}{'' if row.value is AS_IT_CAME else f': {_flow(row.value)}'}`" for path in row.write
    ]
    return " or ".join(settings)


def _explained(row: KnownName) -> str:
    return "; ".join(_notes(row)).replace("|", "\\|")


def _notes(row: KnownName) -> Iterator[str]:
    if row.note:
        yield row.note
    for value, one in row.values.items():
        here = _here(one)
        yield f"`{value or chr(34) * 2}`: {_noted(here, one.note) if here else one.note}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
