"""Find a task's columns in a table, through structs and lists, and give class numbers their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pipelines.data.table import Table
from pipelines.errors import UserError
from pipelines.shown import cut
from pipelines.tasks.base import Task

MOST_OF_A_NAME = 60  # characters of a column's name that a message shows
ROW_COLUMNS = ("id", "cluster")  # columns of every task, if the data has them


def check_names(columns: Mapping[str, str], task: Task) -> None:
    """Refuse `data.columns` that name a column which the task does not have.

    Raises:
        UserError: names it and the columns of the task.
    """
    known = [*task.columns, *ROW_COLUMNS]
    for name in columns:
        if name not in known:
            raise UserError(
                f"data.columns.{name}", "the task has no such column", accepted=_suggest(name, known)
            )


def check_tag_columns(tables: Iterable[Table], columns: Mapping[str, str]) -> None:
    """Refuse files whose tags were found in different columns, unless the user names the column.

    Raises:
        UserError: names both files and their columns.
    """
    found = {table.tag_column: table.where for table in tables if table.tag_column is not None}
    if len(found) > 1 and not any(path.startswith("column_") for path in columns.values()):
        came = ", ".join(f"column {place} of {where}" for place, where in found.items())
        fix = f"name one, such as data.columns.tags: column_{next(iter(found))}"
        raise UserError("data", "the tags are in different columns", came, fix)


def wanted(task: Task, columns: Mapping[str, str]) -> list[str]:
    """Return the columns that are looked for in a source: those that the user names, else the defaults."""
    defaults = {name: column.default for name, column in task.columns.items()}
    found = {**defaults, **{name: name for name in ROW_COLUMNS}, **columns}
    return [path if name in columns else path.split(".")[0] for name, path in found.items()]


def find(
    table: Table, defaults: Mapping[str, str], columns: Mapping[str, str], task: Task
) -> tuple[dict[str, str], list[UserError]]:
    """Return canonical name -> path in the table, and an error for each missing column.

    Args:
        defaults: paths of the task's columns unless `columns` names others.
        columns: paths that the user gives; these must exist even if the task does not need them.
    """
    found: dict[str, str] = {}
    errors: list[UserError] = []
    for name, path in {**defaults, **{name: name for name in ROW_COLUMNS}, **columns}.items():
        reason = _not_there(table, path)
        required = name in columns or (name in task.columns and task.columns[name].required)
        if reason is None:
            found[name] = path
        elif required:
            meaning = f" ({task.columns[name].meaning})" if name in task.columns else ""
            what = f"{reason}, which the task takes as {name!r}{meaning}"
            mapped = name if name in (*type(task).columns, *ROW_COLUMNS) else None
            how = f"; {table.layout}" if table.layout else ""
            errors.append(UserError(table.where, what, accepted=_suggest(path, table.columns, mapped) + how))
    return found, errors


def _not_there(table: Table, path: str) -> str | None:
    """Return why a path does not exist in the table, as a clause; None if it does."""
    if path in table.columns:
        return None
    top, *rest = path.split(".")
    if top not in table.columns or not rest:
        return f"has no column {top!r}"
    rows = [row[top] for row in table.take([top]) if isinstance(row, dict) and row.get(top) is not None]
    if not any(rows):  # all empty, as the answers of questions that have none
        return None
    for step, name in enumerate(rest):
        rows = [inner for row in rows for inner in (row if isinstance(row, list) else [row])]
        structs = [row for row in rows if isinstance(row, dict)]
        if not structs:
            return f"column {'.'.join([top, *rest[:step]])!r} has no fields, so no {path!r}"
        if not any(name in row for row in structs):
            fields = ", ".join(dict.fromkeys(key for row in structs[:100] for key in row))
            return f"column {'.'.join([top, *rest[:step]])!r} has no field {name!r} (it has {fields})"
        rows = [row[name] for row in structs if row.get(name) is not None]
        if not rows:
            return None  # all null: an error for each row follows
    return None


def _suggest(name: str, there: Sequence[str], canonical: str | None = None) -> str:
    near = get_close_matches(name, there, n=1)
    guess = f"did you mean {near[0]!r}? " if near else ""
    listing = listed(there)
    return f"{guess}{listing}" + (f"; name the right one as data.columns.{canonical}" if canonical else "")


def listed(columns: Sequence[str]) -> str:
    """Return the names of the columns that are there, as a clause, each cut to its beginning."""
    return f"columns there: {', '.join(cut(name, MOST_OF_A_NAME) for name in columns) or 'none'}"


def value_at(row: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path; a list of structs gives the list of that field."""
    if path in row:
        return row[path]
    value: Any = row
    for name in path.split("."):
        if isinstance(value, list):
            value = [inner.get(name) if isinstance(inner, dict) else None for inner in value]
        else:
            value = value.get(name) if isinstance(value, dict) else None
    return value


def absence(row: Mapping[str, Any], path: str) -> str:
    """Return why a row has no value at a path, as a clause."""
    top, *rest = path.split(".")
    if rest and path not in row and not isinstance(row.get(top), dict | list | None):
        return f"has no {path!r}, because its {top!r} is {row[top]!r}, which has no fields"
    return f"has no {path!r} (missing or null)"


def class_names(features: Any, path: str) -> list[str] | None:
    """Return the names of the `ClassLabel` at a path, in lists or not; None if there is none."""
    if features is None:
        return None
    node: Any = features
    for name in [path] if path in features else path.split("."):
        node = _inside_list(node)
        if not isinstance(node, dict) or name not in node:
            return None
        node = node[name]
    return getattr(_inside_list(node), "names", None)


def _inside_list(node: Any) -> Any:
    while not isinstance(node, dict) and (isinstance(node, list) or hasattr(node, "feature")):
        node = node[0] if isinstance(node, list) else node.feature
    return node


def named(value: Any, names: Sequence[str]) -> Any:
    """Replace class numbers by their names.

    Raises:
        LookupError: a number without a name; data sets use -1 for "no label".
    """
    if isinstance(value, list):
        return [named(inner, names) for inner in value]
    if value is None or isinstance(value, str):
        return value
    if not 0 <= value < len(names):
        raise LookupError(f"has the label {value}, and only 0 to {len(names) - 1} have names")
    return names[value]
