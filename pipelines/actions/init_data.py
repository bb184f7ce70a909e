"""Read files for `attnlab init --data`: the task, columns, splits and lengths that fit their rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from pipelines.actions import recognise
from pipelines.actions.recognise import LANGUAGES, Reading, Row, readings
from pipelines.errors import UserError
from pipelines.registry import catalog
from pipelines.storage.paths import split_part

MOST_ROWS = 5000  # that are looked at
ENOUGH = 100  # rows from which a test split is drawn too
MOST_LABELS = 60  # that are written into the file
SPLIT_NAMES = {"train": "train", "validation": "validation valid val dev devel", "test": "test eval testb"}
LENGTHS = (64, 128, 256, 384)  # of which the first that holds nearly all texts is taken
LONGEST_TARGET = 128  # so that a decoder of 512 positions holds source and target
NEARLY_ALL = 0.99
PIECE = re.compile(r"[^\W\u0e00-\ud7ff]+|\S")  # words; signs, and characters of scripts without spaces
WANTED = (
    *recognise.TOKENS,
    *recognise.TAGS,
    *recognise.LABELS,
    *recognise.QUESTIONS,
    *recognise.CONTEXTS,
    *recognise.ANSWERS,
    *recognise.LONG,
    *recognise.SHORT,
    *recognise.SOURCES,
    *recognise.WRITTEN,
    *recognise.NUMBERS,
    *recognise.LANGUAGES,
)  # by which a header line is known


Source = str | dict[str, str]  # a file, or one for each column of parallel text


@dataclass
class Start:
    """What `attnlab init` writes because of the data, and the comments that say why."""

    task: catalog.Entry
    options: dict[str, Any]
    data: dict[str, Any]
    comments: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Rows:
    """Rows of the train file, how many it has, and its format where the name does not state it."""

    rows: list[dict[str, Any]]
    num_rows: int
    format: str | None


def start_from(files: Sequence[str], task: str | None) -> Start:
    """Return the task and the settings of the data that fit some files.

    Args:
        files: one file, a file for each split, or a file for each language of parallel text.
        task: the task, where the user names it; None: the first that fits.

    Raises:
        UserError: a file cannot be read, or no task fits its rows.
    """
    sources = _by_split(_parallel(files))
    read = _read(sources["train"])
    found = _spoken(sources["train"]) or readings(read.rows)
    fitting = [reading for reading in found if task in (None, reading.task)]
    where = " ".join(files)
    if not fitting:
        columns = ", ".join(dict.fromkeys(name for row in read.rows for name in row)) or "none"
        fix = "see attnlab ls tasks for the columns of each task; rename them, or start from --task NAME"
        wanted = f"the task {task}" if task else "any task"
        raise UserError(where, f"its columns do not fit {wanted}", columns, fix)
    errors: list[UserError] = []
    for reading in fitting:
        try:
            start = _start(reading, sources, read)
        except UserError as error:
            errors.append(error)
            continue
        others = [f"{other.task} ({other.why})" for other in found if other is not reading]
        start.comments += [f"Also possible: {other}." for other in others]
        return start
    raise errors[0]


def _start(reading: Reading, sources: Mapping[str, Source], read: _Rows) -> Start:
    """Return the settings of one reading, after the task has checked every row.

    Raises:
        UserError: too many rows cannot be used.
    """
    entry = catalog.find(catalog.TASK, reading.task)
    assert entry is not None
    comments = [f"{reading.task}: {reading.why}."]
    data: dict[str, Any] = dict(sources)
    if "validation" not in sources:
        drawn = {"validation": 0.1, "test": 0.1} if read.num_rows >= ENOUGH else {"validation": 0.2}
        drawn = {name: share for name, share in drawn.items() if name not in sources}
        data["split"] = drawn
        shares = " and ".join(f"{share:.0%} as {name}" for name, share in drawn.items())
        comments.append(
            f"One file of {read.num_rows:,} rows, so data.split draws {shares}; name files to use your own."
        )
    needed = {name: path for name, path in reading.columns.items() if _default(entry, name) != path}
    data |= {"format": read.format} if read.format else {}
    data |= {"columns": needed} if needed else {}
    options = dict(reading.options) | _lengths(reading, read.rows, comments)
    skipped, labels = _checked(entry, data, options)
    if skipped:
        data["on_bad_row"] = "skip"
        comments.append(
            f"{skipped:,} rows cannot be used and are left out (on_bad_row); attnlab inspect shows them."
        )
    if labels:
        options["labels"] = labels
        comments.append(f"{len(labels)} labels, written out because a split may lack one.")
    return Start(entry, options, data, comments)


def _checked(
    entry: catalog.Entry, data: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[int, list[str]]:
    """Read all rows as a run does; return how many cannot be used, and the labels to write.

    Raises:
        UserError: no row, or fewer than nine of ten, can be used.
    """
    from pipelines.config.data import DataConfig
    from pipelines.data.splits import load_splits
    from pipelines.registry.load import load_class
    from pipelines.tasks.base import Task

    task: Task = load_class(f"pipelines.tasks.{entry.name}", Task)(**options)
    files = {name: value for name, value in data.items() if name != "split"}
    found = load_splits(DataConfig(**files, on_bad_row="skip"), task, required=("train",))
    skipped = sum(map(len, found.skipped.values()))
    used = sum(len(getattr(found, name) or ()) for name in ("train", "validation", "test"))
    if skipped > used / 9:
        load_splits(DataConfig(**files), load_class(f"pipelines.tasks.{entry.name}", Task)(**options))
    labels = task.state().get("labels") or []
    is_text = all(isinstance(label, str) and not label.isdigit() for label in labels)
    wanted = "split" in data and is_text and "labels" not in options and len(labels) <= MOST_LABELS
    return skipped, [*labels] if wanted and not {"true", "false"} & set(labels) else []


def _default(entry: catalog.Entry, column: str) -> str:
    """Return the path at which a task looks for one of its columns."""
    from pipelines.registry.load import load_class
    from pipelines.tasks.base import Task

    default: str = load_class(f"pipelines.tasks.{entry.name}", Task).columns[column].default
    return default


# ---- files
def _parallel(files: Sequence[str]) -> list[Source]:
    """Join pairs of files that differ in a language at their end (a.en, a.de) to parallel text."""
    names = [Path(file) for file in files]
    if any(name.suffix[1:].lower() not in LANGUAGES for name in names):
        return list(files)
    pairs: dict[str, list[str]] = {}
    for file, name in zip(files, names):
        pairs.setdefault(str(name.with_suffix("")), []).append(file)
    for stem, pair in pairs.items():
        if len(pair) != 2:
            raise UserError(
                stem, "parallel text needs two files", " ".join(pair), "name one for each language"
            )
    return [{"source": source, "target": target} for source, target in pairs.values()]


def _spoken(source: Source) -> list[Reading]:
    """Return the reading of parallel text, whose files state the languages."""
    if isinstance(source, str):
        return []
    ends = {column: LANGUAGES[Path(file).suffix[1:].lower()] for column, file in source.items()}
    why = f"line n of {source['source']} and of {source['target']} belong together"
    columns = {"source": "source", "target": "target"}
    return [Reading("translation", columns, why, {"target_language": ends["target"]})]


def _by_split(sources: Sequence[Source]) -> dict[str, Source]:
    """Return the source of each split: by the names of the files, else in the order train, validation, test.

    Raises:
        UserError: there are more than three, or two have one name.
    """
    told = [_split_of(source) for source in sources]
    if len(sources) > 1 and all(told) and len(set(told)) == len(told) and "train" in told:
        return {split: sources[told.index(split)] for split in SPLIT_NAMES if split in told}
    if len(sources) > len(SPLIT_NAMES):
        fix = "name at most three, for train, validation and test"
        raise UserError("--data", "there are more files than splits", f"{len(sources)} files", fix)
    return dict(zip(SPLIT_NAMES, sources))


def _split_of(source: Source) -> str | None:
    file = source if isinstance(source, str) else source["source"]
    words = re.split(r"[^a-z]+", Path(file).name.lower())
    found = [split for split, names in SPLIT_NAMES.items() if set(names.split()) & set(words)]
    return found[0] if found else None


def _read(source: Source) -> _Rows:
    from pipelines.data.readers import FORMATS, SUFFIXES, read_file, read_parallel
    from pipelines.data.table import Table

    def rows_of(table: Table, format: str | None) -> _Rows:
        rows = islice(table.take(table.columns), MOST_ROWS)
        return _Rows([_named(row, table) for row in rows if isinstance(row, dict)], table.num_rows, format)

    if not isinstance(source, str):
        return rows_of(read_parallel(source), None)
    suffixes = [suffix for suffix in Path(split_part(source)[0]).suffixes if suffix.lower() != ".gz"]
    suffix = suffixes[-1].lower() if suffixes else ""
    if suffix in SUFFIXES:
        return rows_of(read_file(source, wanted=WANTED), None)
    for format in ("parquet", "json", "conll", "tsv", "csv"):  # a name that states no format
        with suppress(UserError):
            read = rows_of(read_file(source, format, wanted=WANTED), format)
            if read.num_rows and len(read.rows) > 0.9 * min(read.num_rows, MOST_ROWS) and _fits(read, format):
                return read
    if suffix == ".txt":
        return rows_of(read_file(source), None)
    fix = f"rename it to end in .{', .'.join(FORMATS[:6])} or .txt"
    raise UserError(source, "the format is known neither from the name nor from the content", accepted=fix)


def _fits(read: _Rows, format: str) -> bool:
    """Return whether rows look as if they had been written in a format, and not only can be read in it."""
    if format == "conll":
        return any(reading.task == "ner" for reading in readings(read.rows))
    return format in ("parquet", "json") or (len(read.rows[0]) > 1 and "column_1" not in read.rows[0])


def _named(row: Mapping[str, Any], table: Any) -> dict[str, Any]:
    """Return a row with the names of its numbered classes."""
    from pipelines.data.columns import class_names, named

    names = {name: class_names(table.features, name) for name in row}
    return {
        name: _or_none(named, value, names[name]) if names[name] else value for name, value in row.items()
    }


def _or_none(named: Any, value: Any, names: Any) -> Any:
    try:
        return named(value, names)
    except LookupError:  # a number without a name; the task says so
        return None


# ---- lengths
def _lengths(reading: Reading, rows: Sequence[Row], comments: list[str]) -> dict[str, int]:
    """Return the options of length that hold nearly all rows, estimated without a tokenizer."""
    from pipelines.data.columns import value_at

    def tokens(*names: str) -> int:
        values = [
            [value_at(row, reading.columns[name]) for name in names if name in reading.columns]
            for row in rows
        ]
        sizes = sorted(sum(map(_tokens, found)) for found in values)
        return sizes[int(NEARLY_ALL * (len(sizes) - 1))]

    def says(option: str, length: int, needed: int) -> None:
        comments.append(f"{option} {length}: 99 % of the rows have at most about {needed:,} tokens.")

    if reading.columns.keys() & {"source"} or reading.task == "generative_question_answering":
        read = tokens("source", "question", "context") + 12  # with a prefix
        written = tokens("target", "answers") + 4
        source = _fitting(read, LENGTHS)
        target = _fitting(written, (16, 32, 64, LONGEST_TARGET))
        says("max_source_len", source, read)
        says("max_target_len", target, written)
        return {"max_source_len": source, "max_target_len": target}
    needed = tokens("text", "text_pair", "tokens", "question", "context") + 4
    length = _fitting(needed, LENGTHS)
    says("max_len", length, needed)
    overlap = {"question_answering": length // 3, "language_modelling": length // 8, "ner": length // 8}
    return {"max_len": length, **({"overlap": overlap[reading.task]} if reading.task in overlap else {})}


def _fitting(needed: int, lengths: Sequence[int]) -> int:
    return next((length for length in lengths if needed <= length), lengths[-1])


def _tokens(value: object) -> int:
    """Return about how many tokens a text has under a small vocabulary."""
    if isinstance(value, list):  # words, or references of which the first is learned
        one = any(isinstance(text, str) and " " in text for text in value)
        return _tokens(value[0]) if one else sum(map(_tokens, value))
    text = value if isinstance(value, str) else ""
    return max(int(1.5 * len(PIECE.findall(text))), len(text) // 3)
