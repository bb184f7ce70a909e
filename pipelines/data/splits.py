"""From a data section of a run to checked examples under a task's own column names."""

from __future__ import annotations

import hashlib
import inspect
import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Any

import numpy as np

from pipelines.data.columns import absence, check_names, class_names, find, named, value_at
from pipelines.data.readers import BadRow, Table, hub_splits, of_rows, read_file, read_hub
from pipelines.data.streaming import OnDisk, stream_file
from pipelines.errors import UserError, raise_all
from pipelines.tasks.base import Task

SPLITS = ("train", "validation", "test")
MOST_ERRORS = 10  # shown at once; the rest is counted
Example = dict[str, Any]
Bad = tuple[int, str]  # row from 0, reason


@dataclass
class Splits:
    """Checked examples by split, in source order: canonical columns, a unique "id", perhaps "cluster"."""

    train: Sequence[Example] | None = None
    validation: Sequence[Example] | None = None
    test: Sequence[Example] | None = None
    skipped: dict[str, list[Bad]] = field(default_factory=dict)  # rows counted from 1
    hashes: dict[str, str] = field(default_factory=dict)  # sha256 of the examples in order
    notes: list[str] = field(default_factory=list)  # what a reader of the results should know of the data


def load_splits(config: Any, task: Task, required: Sequence[str] = ("train", "validation")) -> Splits:
    """Read every split that the data section names and check every row of it.

    `task.fit` meets the whole train split here, before it is cut to `max_train_examples`, so a quick pass has
    the labels of the full run; validation and test rows are then checked against what it learned.

    Args:
        config: the data section (`DataConfig`).
        required: splits that must be there.

    Raises:
        UserError: a fault of the source, or rows that cannot be used while `on_bad_row` is "stop"; up to
            ten are told at once, before any training.
    """
    if config.streaming and task.reads == "series":
        raise UserError("data.streaming", "a series is read as a whole", accepted="set false")
    tables = _tables(config)
    missing = [split for split in required if split not in tables]
    raise_all([_missing_split(config, split, list(tables)) for split in missing])
    # a generator speaks the canonical names
    sources = {name: name if config.generated else column.default for name, column in task.columns.items()}
    paths = _find_columns(tables, sources, config.columns, task)
    splits, errors = Splits(), []
    contents: dict[str, np.ndarray] = {}
    for split, table in tables.items():
        examples, bad = _examples(table, paths[split], task)
        splits.notes += table.notes
        splits.skipped[split] = [(table.number(row), reason) for row, reason in bad]
        if bad and config.on_bad_row == "stop":
            errors += _bad_rows(table, bad)
        elif not examples:
            errors.append(_empty(table, split, bad))
        else:
            if split == "train":
                task.fit({"train": examples})
            if table.stream is None:
                examples = _joined(table, task, examples, errors)
        most = getattr(config, f"max_{split}_examples")
        if most is not None and most < len(examples):
            splits.notes.append(f"{split}: the first {most:,} of {len(examples):,} examples")
            examples = examples[:most]
        splits.hashes[split], contents[split] = _hash(examples)
        setattr(splits, split, examples)
    _raise_some(errors)
    for split in [name for name in contents if name != "train" and "train" in contents]:
        shared = len(np.intersect1d(contents[split], contents["train"], assume_unique=True))
        if shared:
            splits.notes.append(
                f"{split}: {shared:,} of {len(contents[split]):,} distinct rows also stand in train"
            )
    return splits


# ---- sources
def _tables(config: Any) -> dict[str, Table]:
    if config.generated:
        return _generate(config.generated)
    named = {split: getattr(config, split) for split in SPLITS}
    if config.name is None:
        paths = {split: path for split, path in named.items() if path is not None}
        read = stream_file if config.streaming else read_file
        return {split: read(path, config.format, config.encoding) for split, path in paths.items()}
    source = (config.name, config.config, config.revision)
    if None in named.values():  # a split that is not named is the one of that name, where there is one
        there = hub_splits(*source)
        named = {split: named[split] or (split if split in there else None) for split in SPLITS}
    return {split: read_hub(*source, part) for split, part in named.items() if part is not None}


def corpora() -> list[str]:
    """Names of the generators under `corpora/`."""
    return sorted(
        item.name for item in iter_modules(find_spec("pipelines.corpora").submodule_search_locations)
    )


def _generate(spec: Any) -> dict[str, Table]:
    where = f"generated corpus {spec.name!r}"
    if spec.name not in corpora():
        raise UserError(where, "there is no such generator", accepted=f"there are {', '.join(corpora())}")
    generate = import_module(f"pipelines.corpora.{spec.name}").generate
    known = [
        name
        for name in inspect.signature(generate).parameters
        if name not in ("num_examples", "seed", "split")
    ]
    for option in sorted(set(spec.options) - set(known)):
        raise UserError(where, "unknown option", option, f"its options are {', '.join(known) or 'none'}")
    counts = {split: getattr(spec, split) for split in SPLITS}
    return {
        split: of_rows(f"{where}, {split}", generate(count, spec.seed, split, **spec.options))
        for split, count in counts.items()
        if count
    }


def _missing_split(config: Any, split: str, there: Sequence[str]) -> UserError:
    if config.name is None:
        return UserError(f"data.{split}", "there is no such split", accepted=f"give a file as data.{split}")
    fix = f"name one of its splits or a part of one, such as data.{split}: train[:10%]"
    what = f"{config.name} has no split {split!r}, only {', '.join(there)}"
    return UserError(f"data.{split}", what, accepted=fix)


# ---- rows
def _find_columns(
    tables: Mapping[str, Table], defaults: Mapping[str, str], columns: Mapping[str, str], task: Task
) -> dict[str, dict[str, str]]:
    """For each split, canonical name -> path in its source; everything missing is told at once."""
    check_names(columns, task)
    errors: list[UserError] = []
    paths: dict[str, dict[str, str]] = {}
    for split, table in tables.items():
        paths[split], missing = find(table, defaults, columns, task)
        if not table.num_rows:
            errors.append(_empty(table, split, []))
        elif table.columns:
            errors += missing
        else:  # no row could be read, and why says more than which columns are missing
            bad = enumerate(row.reason for row in table.take([]) if isinstance(row, BadRow))
            errors += _bad_rows(table, list(bad))
    _raise_some(errors)
    return paths


def _examples(table: Table, paths: Mapping[str, str], task: Task) -> tuple[Sequence[Example], list[Bad]]:
    """Rows that can be used, and those that cannot; a row that is streamed is an example at once."""
    names = {name: class_names(table.features, path) for name, path in paths.items()}
    rows = table.rows([*paths.values(), *(path.split(".")[0] for path in paths.values())])
    examples: Any = [] if table.stream is None else OnDisk()
    bad: list[Bad] = []
    seen: dict[str, int] = {}
    for index, row in enumerate(rows):
        try:
            example = _example(row, table.number(index), paths, names, task)
        except LookupError as error:
            bad.append((index, error.args[0]))
            continue
        first = seen.setdefault(example["id"], index) if "id" in paths else index
        if first != index:
            bad.append((index, f"has the id {example['id']!r} of row {table.number(first)}"))
            continue
        examples.append(example if table.stream is None else task.examples([example])[0])
    return examples, bad


def _example(
    row: Any, number: int, paths: Mapping[str, str], names: Mapping[str, list[str] | None], task: Task
) -> Example:
    """One row under canonical names; without an id it is called by its number.

    Raises:
        LookupError: why it cannot be used, as a clause.
    """
    if isinstance(row, BadRow):
        raise LookupError(row.reason)
    example: Example = {}
    for name, path in paths.items():
        value = value_at(row, path)
        if names[name] and name not in ("id", "cluster"):
            value = named(value, names[name])
        if value is None and (name not in task.columns or task.columns[name].required):
            raise LookupError(absence(row, path))
        example[name] = value
    for name in {"id", "cluster"} & example.keys():
        if isinstance(example[name], list | dict):
            raise LookupError(f"has the {name} {example[name]!r}, which is neither text nor a number")
        example[name] = str(example[name])
    example.setdefault("id", str(number))
    reason = task.check(example)
    if reason:
        raise LookupError(reason)
    return example


def _joined(table: Table, task: Task, rows: list[Example], errors: list[UserError]) -> Sequence[Example]:
    """The task's examples of checked rows; what stands against it joins the errors, with its place."""
    try:
        return task.examples(rows)
    except UserError as error:
        errors.append(UserError(f"{table.where}, {error.where}", error.what, error.came, error.accepted))
        return rows


# ---- faults
def _bad_rows(table: Table, bad: Sequence[Bad]) -> list[UserError]:
    """One error per distinct reason, at its first row."""
    rows_of: dict[str, list[int]] = {}
    for row, reason in bad:
        rows_of.setdefault(reason, []).append(row)
    fix = "mend the data, or set data.on_bad_row: skip to leave such rows out and count them"
    return [
        UserError(
            table.place(rows[0]) + (f" and {len(rows) - 1:,} more rows" if rows[1:] else ""),
            reason,
            None,
            fix,
        )
        for reason, rows in rows_of.items()
    ]


def _empty(table: Table, split: str, bad: Sequence[Bad]) -> UserError:
    if not bad:
        return UserError(table.where, f"the {split} split has no rows", accepted="give it at least one")
    what = f"no row of the {split} split can be used; row {table.number(bad[0][0])} {bad[0][1]}"
    return UserError(table.where, what, accepted="mend the data")


def _raise_some(errors: Sequence[UserError]) -> None:
    if len(errors) > MOST_ERRORS:
        rest = UserError("data", f"{len(errors) - MOST_ERRORS:,} more faults like these were found")
        errors = [*errors[:MOST_ERRORS], rest]
    raise_all(errors)


# ---- identity
def _hash(examples: Sequence[Example]) -> tuple[str, np.ndarray]:
    """sha256 over all examples in order; and 64 bits of the digest of each distinct content without id."""
    whole, contents = hashlib.sha256(), array("Q")
    encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, default=_plain).encode
    for example in examples:
        content = encode({name: value for name, value in example.items() if name != "id"})
        digest = hashlib.sha256(content.encode("utf-8", "surrogatepass")).digest()
        contents.append(int.from_bytes(digest[:8]))
        whole.update(example["id"].encode("utf-8", "surrogatepass") + b"\0" + digest)
    return whole.hexdigest(), np.unique(np.array(contents))


def _plain(value: Any) -> str:
    """What JSON has no form for (bytes, arrays, dates), as text that differs when the value does."""
    if hasattr(value, "tobytes"):
        return repr(value.shape) + hashlib.sha256(value.tobytes()).hexdigest()
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else repr(value)
