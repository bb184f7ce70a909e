"""What predictions are compared with: rows of data as a run reads them, or a reference for each line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.config.run import DataConfig
from pipelines.data import plain_text
from pipelines.data.columns import find, value_at, wanted
from pipelines.data.content import hash_of_rows, hashes_of
from pipelines.data.decode import decode, read_bytes, unpack
from pipelines.data.readers import TEXT, read_file, suffix_of
from pipelines.data.splits import load_splits
from pipelines.data.table import BadRow, Table
from pipelines.data.tag_schemes import scheme_of
from pipelines.errors import UserError
from pipelines.storage.paths import shown
from pipelines.tasks.base import Example, Task

ReadTags = Callable[[Sequence[str]], list[str]]
ROW = ("id", "cluster")


@dataclass(frozen=True)
class References:
    """The reference of each example, in order."""

    where: str
    values: tuple[Any, ...]
    ids: tuple[str, ...] | None  # None: the source has none, and examples are known by their order
    clusters: tuple[str, ...] | None
    digest: str  # of the examples, as a run on the same rows has it
    read_tags: ReadTags | None = None  # tags of the source's scheme as IOB2
    notes: tuple[str, ...] = ()


def read(data: DataConfig, task: Task) -> References:
    """Return the references in the file of `data.train`; the task learns its labels from them.

    Raises:
        UserError: the file cannot be read as data of this task.
    """
    if not any(column.is_target for column in task.columns.values()):
        what = "what this task predicts has no reference that a file could hold"
        fix = "compare numbers that the files give, such as --score loss --lower-is-better"
        raise UserError("--task", what, accepted=fix)
    file = data.train
    assert isinstance(file, str)  # it was given as one file
    if data.format is None and suffix_of(Path(file)) == TEXT:
        return _of_lines(file, data, task)
    table = read_file(file, data.format, data.encoding, wanted(task, data.columns))
    inputs = {name: column.default for name, column in task.columns.items() if _is_input(task, name)}
    there, missing = find(table, inputs, data.columns, task)
    if missing and not any(name in there for name in inputs):
        return _of_targets(table, data, task)
    return _of_rows(data, task, table)


def _is_input(task: Task, name: str) -> bool:
    column = task.columns[name]
    return column.required and not column.is_target


def _of_rows(data: DataConfig, task: Task, table: Table) -> References:
    """Read whole rows, with the checks of a run."""
    splits = load_splits(data, task, required=("train",))
    examples = splits.train
    assert examples is not None  # it is required
    has_ids = data.columns.get("id", "id").split(".")[0] in table.columns
    scheme = next(iter(splits.schemes.get("train", {}).values()), None)
    return References(
        where=table.where,
        values=tuple(task.reference(example) for example in examples),
        ids=tuple(example["id"] for example in examples) if has_ids else None,
        clusters=tuple(task.cluster(example) for example in examples),
        digest=splits.rows["train"],
        read_tags=scheme.read if scheme is not None else None,
        notes=tuple(splits.notes),
    )


def _of_targets(table: Table, data: DataConfig, task: Task) -> References:
    """Read rows that have no inputs, only what is to be predicted."""
    targets = {n: c.default for n, c in task.columns.items() if c.is_target and c.required}
    alone = {next(iter(targets)): next(iter(targets.values()))} if targets else {}
    columns = {name: path for name, path in data.columns.items() if name in (*alone, *ROW)}
    kept = {**{name: name for name in ROW}, **alone, **columns}
    lacking = [
        f"{path!r} ({task.columns[name].meaning})"
        for name, path in kept.items()
        if name in alone and path.split(".")[0] not in table.columns
    ]
    if lacking:
        there = ", ".join(table.columns)
        fix = f"columns there: {there}; data.columns.{next(iter(alone))}=NAME names another"
        raise UserError(table.where, f"has no column {lacking[0]}", accepted=fix)
    examples: list[Example] = []
    for index, row in enumerate(table.take([path.split(".")[0] for path in kept.values()])):
        if isinstance(row, BadRow):
            raise UserError(table.place(index), row.reason)
        example = {name: value_at(row, path) for name, path in kept.items() if path.split(".")[0] in row}
        example.setdefault("id", str(index + 1))
        examples.append(task.spelled(example))
    return _of_examples(table.where, examples, task, has_ids=kept["id"].split(".")[0] in table.columns)


def _of_lines(file: str, data: DataConfig, task: Task) -> References:
    """Read a reference from each line of a text."""
    where, notes = shown(file), list[str]()
    text = decode(unpack(read_bytes(Path(file)), Path(file), notes), data.encoding, where)
    target = next(name for name, column in task.columns.items() if column.is_target and column.required)
    examples: list[Example] = []
    for number, line in enumerate(plain_text.lines_of(text), start=1):
        try:
            examples.append({"id": str(number), target: task.read_prediction(line)})
        except LookupError as error:
            raise UserError(f"{where}, line {number}", error.args[0]) from error
    return _of_examples(where, examples, task, has_ids=False)


def _of_examples(where: str, examples: Sequence[Example], task: Task, *, has_ids: bool) -> References:
    """Return the references of examples without inputs."""
    read_tags: ReadTags | None = None
    for name in [name for name, column in task.columns.items() if column.is_iob]:
        scheme = scheme_of(example[name] for example in examples if _are_texts(example.get(name)))
        if scheme.name == "unknown":
            fix = "give one tag a word (O, B-PER, ...), or data.format=conll for CoNLL"
            raise UserError(where, "is no list of tags of named entities", accepted=fix)
        read_tags = scheme.read
        examples = [
            {**example, name: scheme.read(example[name])} if _are_texts(example.get(name)) else example
            for example in examples
        ]
    values = []
    if examples:
        task.fit({"train": examples})
    for example in examples:
        try:
            values.append(task.reference(example))
        except (LookupError, TypeError, ValueError) as error:
            reason = error.args[0] if isinstance(error, LookupError) else f"cannot be read ({error})"
            raise UserError(f"{where}, example {example['id']}", str(reason)) from error
    return References(
        where=where,
        values=tuple(values),
        ids=tuple(str(example["id"]) for example in examples) if has_ids else None,
        clusters=tuple(str(one["cluster"]) for one in examples) if _all_have(examples, "cluster") else None,
        digest=hash_of_rows(hashes_of([dict(example) for example in examples])[1]),
        read_tags=read_tags,
    )


def _all_have(examples: Sequence[Example], name: str) -> bool:
    return bool(examples) and all(example.get(name) is not None for example in examples)


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(tag, str) for tag in value)
