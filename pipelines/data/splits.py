"""The splits of a run: checked examples under the column names of the task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, TypeGuard

import numpy as np

from pipelines.config.data import DataConfig, GeneratedSpec
from pipelines.config.options import check_options
from pipelines.data import label_shares, twice
from pipelines.data.columns import (
    absence,
    check_names,
    check_tag_columns,
    class_names,
    find,
    named,
    value_at,
    wanted,
)
from pipelines.data.content import hash_of_rows, hashes_of
from pipelines.data.garbage import without_garbage_collection
from pipelines.data.partition import partition
from pipelines.data.readers import open_hub, read_file, read_parallel
from pipelines.data.streaming import OnDisk, stream_file
from pipelines.data.table import BadRow, Row, Table, of_rows
from pipelines.data.tag_schemes import Scheme, scheme_of
from pipelines.errors import UserError, raise_all
from pipelines.hub.messages import DataPart
from pipelines.registry import catalog
from pipelines.shown import plural
from pipelines.storage.paths import split_part
from pipelines.tasks.base import Example, Task

SPLITS = ("train", "validation", "test")
MOST_ERRORS = 10  # that are reported; the rest is counted
SERIES = "a series is read as a whole"
REPAIR = "repair the data, or set data.on_bad_row: skip to leave such rows out and count them"
SORTED = "if the file is sorted, data.split draws the rows of each split from all of it"
Bad = tuple[int, str]  # row from 0, reason


@dataclass
class Splits:
    """Checked examples by split, in source order: canonical columns, a unique "id", perhaps "cluster"."""

    train: Sequence[Example] | None = None
    validation: Sequence[Example] | None = None
    test: Sequence[Example] | None = None
    skipped: dict[str, list[Bad]] = field(default_factory=dict)  # rows counted from 1
    hashes: dict[str, str] = field(default_factory=dict)  # sha256 of the examples in order
    rows: dict[str, str] = field(default_factory=dict)  # sha256 of the examples in any order, under any ids
    notes: list[str] = field(default_factory=list)  # about the data, for the reader of the results
    layouts: dict[str, str] = field(default_factory=dict)  # by split: how its columns were read
    schemes: dict[str, Mapping[str, Scheme]] = field(default_factory=dict)  # by split: of each column of tags


@without_garbage_collection()
def load_splits(config: DataConfig, task: Task, required: Sequence[str] = ("train", "validation")) -> Splits:
    """Read every split that the data section names and check every row.

    `task.fit` is called here with the whole train split, before it is cut to `max_train_examples`, so that a
    short run has the labels of the full one; validation and test rows are then checked against them.

    Args:
        config: the data section of a run.
        required: splits that must exist.

    Raises:
        UserError: an error in a source, or rows that cannot be used while `on_bad_row` is "stop"; up to
            ten are reported together.
    """
    if task.reads == "series" and (config.streaming or config.split):
        fix = "set false" if config.streaming else "cut it in time, as rows.csv[:80%]"
        raise UserError(f"data.{'streaming' if config.streaming else 'split'}", SERIES, accepted=fix)
    tables = _tables(config, task)
    check_tag_columns(tables.values(), config.columns)
    there = [*tables, *_drawn(config)]
    raise_all([_missing_split(config, split, there) for split in required if split not in there])
    # a generator uses the canonical names
    sources = {name: name if config.generated else column.default for name, column in task.columns.items()}
    paths = _find_columns(tables, sources, config.columns, task)
    splits = Splits()
    errors: list[UserError] = []
    contents: dict[str, np.ndarray] = {}
    for source, table in tables.items():
        for split, examples in _read(config, table, source, paths[source], task, splits, errors).items():
            most = getattr(config, f"max_{split}_examples")
            if most is not None and most < len(examples):
                splits.notes.append(f"{split}: the first {most:,} of {plural(len(examples), 'example')}")
                examples = examples[:most]
            splits.hashes[split], contents[split] = hashes_of(examples)
            splits.rows[split] = hash_of_rows(contents[split])
            if split != "train" and isinstance(examples, list):
                splits.notes += twice.clustered(split, examples, contents[split], task)
            setattr(splits, split, examples)
    _raise_some(errors)
    splits.notes += _comparisons(splits, contents, task)
    return splits


def _read(
    config: DataConfig,
    table: Table,
    source: str,
    paths: Mapping[str, str],
    task: Task,
    splits: Splits,
    errors: list[UserError],
) -> dict[str, Sequence[Example]]:
    """Return the examples of a source by split; what there is to say is added to `splits` and `errors`."""
    schemes = _schemes(table, paths, task)
    examples, bad = _examples(table, paths, task, schemes)
    splits.notes += table.notes
    splits.notes += [f"{table.where}: {scheme.note}" for scheme in schemes.values() if scheme.note]
    splits.layouts[source], splits.schemes[source] = _layout(table, paths, schemes), schemes
    splits.skipped[source] = [(table.number(row), reason) for row, reason in bad]
    if bad and config.on_bad_row == "stop":
        cut = source != "train" and _one_file(config.train, getattr(config, source))
        errors += _bad_rows(table, bad, f"{REPAIR}; {SORTED}" if cut else REPAIR)
        return {source: examples}
    if not examples:
        errors.append(_empty(table, source, bad))
        return {source: examples}
    parts = {source: examples}
    if source == "train" and config.split is not None:
        rows = partition(examples, config.split, task, table.where)
        parts = {split: [examples[row] for row in rows[split]] for split in SPLITS if split in rows}
        sizes = ", ".join(f"{len(part):,} {split}" for split, part in parts.items())
        splits.notes.append(f"{table.where}: split at random (seed {config.split.seed}): {sizes}")
    if source == "train":
        task.fit({"train": parts["train"]})
    for split in [split for split in parts if split != source]:
        parts[split] = _checked_again(config, table, split, parts[split], task, splits, errors)
    if table.stream is None:
        parts = {split: _joined(table, task, part, errors) for split, part in parts.items()}
    return parts


def _checked_again(
    config: DataConfig,
    table: Table,
    split: str,
    examples: Sequence[Example],
    task: Task,
    splits: Splits,
    errors: list[UserError],
) -> Sequence[Example]:
    """Return the examples of a drawn split that can be used, now that the task knows those of train."""
    bad = [(example["id"], reason) for example in examples if (reason := task.check(example))]
    if bad and config.on_bad_row == "stop":
        more = f" and {plural(len(bad) - 1, 'more row')}" if bad[1:] else ""
        errors.append(UserError(f"{table.where}, id {bad[0][0]}{more}", bad[0][1], accepted=REPAIR))
    refused = {name for name, _ in bad}
    splits.skipped[split] = [(int(name) if name.isdigit() else 0, reason) for name, reason in bad]
    return [example for example in examples if example["id"] not in refused]


def _comparisons(splits: Splits, contents: Mapping[str, np.ndarray], task: Task) -> Iterator[str]:
    """Yield what validation and test share with train that they should not, and what not that they should."""
    if splits.train is None:
        return
    shares = label_shares.count(splits.train, task)
    yield from label_shares.look_alikes(shares)
    yield from twice.shared(contents)
    for split in [name for name in contents if name != "train"]:
        differs = label_shares.difference(split, label_shares.count(getattr(splits, split), task), shares)
        if differs:
            yield differs


# ---- sources
def _tables(config: DataConfig, task: Task) -> dict[str, Table]:
    if config.generated:
        return _generate(config.generated)
    given = [split for split in SPLITS if split not in _drawn(config)]
    named = {split: getattr(config, split) for split in given}
    if config.name is None:
        return {split: _file(config, files, task) for split, files in named.items() if files is not None}
    source = open_hub(config.name, DataPart(config=config.config, folder=config.folder), config.revision)
    if None in named.values():  # a split that is not named is the one of the same name, if it exists
        available = source.splits()
        named = {split: named[split] or (split if split in available else None) for split in given}
    return {split: source.read(part) for split, part in named.items() if part is not None}


def _file(config: DataConfig, files: str | Mapping[str, str], task: Task) -> Table:
    if not isinstance(files, str):
        return read_parallel(files, config.encoding)
    if config.streaming:
        return stream_file(files, config.format, config.encoding)
    return read_file(files, config.format, config.encoding, wanted(task, config.columns))


def _drawn(config: DataConfig) -> list[str]:
    """Return the splits that are drawn from train."""
    spec = config.split
    shares = {"validation": spec.validation, "test": spec.test} if spec else {}
    return [split for split, share in shares.items() if share]


def _generate(spec: GeneratedSpec) -> dict[str, Table]:
    where = f"generated corpus {spec.name!r}"
    entry = catalog.find(catalog.CORPUS, spec.name)
    if entry is None:
        corpora = catalog.names(catalog.CORPUS)
        raise UserError(where, "there is no such generator", accepted=f"there are {', '.join(corpora)}")
    check_options(entry, spec.options, "data.generated.options")
    generate = import_module(f"pipelines.corpora.{spec.name}").generate
    counts = {split: getattr(spec, split) for split in SPLITS}
    return {
        split: of_rows(f"{where}, {split}", generate(count, spec.seed, split, **spec.options))
        for split, count in counts.items()
        if count
    }


def _missing_split(config: DataConfig, split: str, available: Sequence[str]) -> UserError:
    if config.name is None:
        return UserError(f"data.{split}", "there is no such split", accepted=f"give a file as data.{split}")
    fix = f"name one of its splits or a part of one, such as data.{split}: train[:10%]"
    what = f"{config.name} has no split {split!r}, only {', '.join(available)}"
    return UserError(f"data.{split}", what, accepted=fix)


# ---- rows
def _find_columns(
    tables: Mapping[str, Table], defaults: Mapping[str, str], columns: Mapping[str, str], task: Task
) -> dict[str, dict[str, str]]:
    """Return for each split canonical name -> path in its source; report all missing columns together."""
    check_names(columns, task)
    errors: list[UserError] = []
    paths: dict[str, dict[str, str]] = {}
    for split, table in tables.items():
        paths[split], missing = find(table, defaults, columns, task)
        if not table.num_rows:
            errors.append(_empty(table, split, []))
        elif table.columns:
            errors += missing
        else:  # no row could be read: report the reasons instead of missing columns
            bad = enumerate(row.reason for row in table.take([]) if isinstance(row, BadRow))
            errors += _bad_rows(table, list(bad))
    _raise_some(errors)
    return paths


def _schemes(table: Table, paths: Mapping[str, str], task: Task) -> dict[str, Scheme]:
    """Return the scheme of each column of word tags, from all of its rows."""
    found = {}
    for name, path in paths.items():
        if name in task.columns and task.columns[name].is_iob:
            names = class_names(table.features, path)
            found[name] = scheme_of(_all_tags(table, path, names))
    return found


def _all_tags(table: Table, path: str, names: Sequence[str] | None) -> Iterator[list[str]]:
    """Yield the tags of each row that has a list of texts."""
    for row in table.rows([path, path.split(".")[0]]):
        tags = None if isinstance(row, BadRow) else value_at(row, path)
        with suppress(LookupError):  # a number without a name is told later, with its row
            tags = named(tags, names) if names and tags is not None else tags
        if _are_texts(tags):
            yield tags


def _are_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(issubclass(kind, str) for kind in set(map(type, value)))


def _layout(table: Table, paths: Mapping[str, str], schemes: Mapping[str, Scheme]) -> str:
    """Return how the columns of a source were read, for `attnlab inspect`."""
    taken = [
        f"{name} from {path}" + (f" ({schemes[name].name})" if name in schemes else "")
        for name, path in paths.items()
    ]
    layout = f"{table.where}: {table.layout}" if table.layout else table.where
    return f"{layout}; {', '.join(taken)}"


def _examples(
    table: Table, paths: Mapping[str, str], task: Task, schemes: Mapping[str, Scheme]
) -> tuple[Sequence[Example], list[Bad]]:
    """Return the examples of usable rows, and the unusable rows; streamed rows become examples one by one."""
    names = {name: class_names(table.features, path) for name, path in paths.items()}
    rows = table.rows([*paths.values(), *(path.split(".")[0] for path in paths.values())])
    examples: list[Example] | OnDisk = [] if table.stream is None else OnDisk()
    bad: list[Bad] = []
    seen: dict[str, int] = {}
    for index, row in enumerate(rows):
        try:
            example = _example(row, table.number(index), paths, names, schemes, task)
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
    row: Row | BadRow,
    number: int,
    paths: Mapping[str, str],
    names: Mapping[str, list[str] | None],
    schemes: Mapping[str, Scheme],
    task: Task,
) -> Example:
    """Return a row under canonical names; without an id, its number is its id.

    Raises:
        LookupError: it cannot be used; the message is a clause.
    """
    if isinstance(row, BadRow):
        raise LookupError(row.reason)
    example: dict[str, Any] = {}
    for name, path in paths.items():
        value = value_at(row, path)
        labels = names[name]
        if labels and name not in ("id", "cluster"):
            value = named(value, labels)
        column = task.columns.get(name)
        if value is None and (column is None or (column.required and not column.may_be_null)):
            raise LookupError(absence(row, path))
        example[name] = schemes[name].read(value) if name in schemes and _are_texts(value) else value
    for name in {"id", "cluster"} & example.keys():
        if isinstance(example[name], list | dict):
            raise LookupError(f"has the {name} {example[name]!r}, which is neither text nor a number")
        example[name] = str(example[name])
    example.setdefault("id", str(number))
    spelled = task.spelled(example)
    reason = task.check(spelled)
    if reason:
        raise LookupError(reason)
    return spelled


def _joined(table: Table, task: Task, rows: Sequence[Example], errors: list[UserError]) -> Sequence[Example]:
    """Return the task's examples of checked rows; an error of the task is added to `errors`."""
    try:
        return task.examples(rows)
    except UserError as error:
        errors.append(UserError(f"{table.where}, {error.where}", error.what, error.came, error.accepted))
        return rows


# ---- errors
def _one_file(*files: object) -> bool:
    """Return whether these are rows of one file."""
    return len({split_part(file)[0] if isinstance(file, str) else None for file in files}) == 1


def _bad_rows(table: Table, bad: Sequence[Bad], fix: str = REPAIR) -> list[UserError]:
    """Return one error per kind of reason, at its first row."""
    rows_of: dict[str, list[int]] = {}
    first: dict[str, str] = {}
    for row, reason in bad:
        rows_of.setdefault(kind_of(reason), []).append(row)
        first.setdefault(kind_of(reason), reason)
    return [
        UserError(
            table.place(rows[0]) + (f" and {plural(len(rows) - 1, 'more row')}" if rows[1:] else ""),
            first[kind],
            None,
            fix,
        )
        for kind, rows in rows_of.items()
    ]


def kind_of(reason: str) -> str:
    """Return a reason without what is special to its row, which follows a colon."""
    return reason.partition(": ")[0]


def _empty(table: Table, split: str, bad: Sequence[Bad]) -> UserError:
    if not bad:
        return UserError(table.where, f"the {split} split has no rows", accepted="give it at least one")
    what = f"no row of the {split} split can be used; row {table.number(bad[0][0])} {bad[0][1]}"
    return UserError(table.where, what, accepted="repair the data")


def _raise_some(errors: Sequence[UserError]) -> None:
    # Two splits of one file have one error.
    errors = list({(error.where, error.what): error for error in reversed(errors)}.values())[::-1]
    if len(errors) > MOST_ERRORS:
        rest = UserError("data", f"and {plural(len(errors) - MOST_ERRORS, 'more error')} like these")
        errors = [*errors[:MOST_ERRORS], rest]
    raise_all(errors)
