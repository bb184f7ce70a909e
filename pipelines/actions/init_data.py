"""Read files for `attnlab init --data`: the task, columns, splits and lengths that fit their rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from pipelines.actions.recognise import columns as known
from pipelines.actions.recognise.columns import LANGUAGES, Columns, Row
from pipelines.actions.recognise.other_shapes import refusals
from pipelines.actions.recognise.readings import Reading, readings
from pipelines.errors import UserError
from pipelines.registry import catalog
from pipelines.storage.paths import split_part

MOST_ROWS = 5000  # that are looked at
LOOSE = {"text_classification", "language_modelling", "translation", "summarization"}  # any texts may fit
ENOUGH = 100  # rows from which a test split is drawn too
MOST_LABELS = 60  # that are written into the file
SPLIT_NAMES = {"train": "train", "validation": "validation valid val dev devel", "test": "test eval testb"}
LENGTHS = (64, 128, 256, 384)  # of which the first that holds nearly all texts is taken
LONGEST_TARGET = 128  # so that a decoder of 512 positions holds source and target
NEARLY_ALL = 0.99
SHORTEST_CONTEXT, SHORTEST_ROWS = 16, 300  # of a series: a patch of PatchTST, and what gives one
OTHER_ENCODING = "cp1252"  # of Windows in the west, where a file is not UTF-8
PIECE = re.compile(r"[^\W\u0e00-\ud7ff]+|\S")  # words; signs, and characters of scripts without spaces
WANTED = (
    *known.TOKENS,
    *known.TAGS,
    *known.LABELS,
    *known.QUESTIONS,
    *known.CONTEXTS,
    *known.ANSWERS,
    *known.LONG,
    *known.SHORT,
    *known.SOURCES,
    *known.WRITTEN,
    *known.NUMBERS,
    *known.LANGUAGES,
)  # by which a header line is known


Source = str | dict[str, str]  # a file, or one for each column of parallel text


@dataclass
class Start:
    """What `attnlab init` writes because of the data, and the comments that say why."""

    task: catalog.Entry
    options: dict[str, Any]
    data: dict[str, Any]
    comments: list[str] = field(default_factory=list)
    num_train: int | None = None  # rows to learn from


@dataclass(frozen=True)
class _Rows:
    """Rows of the train file, how many it has, and its format and encoding where these must be stated.

    `reason` is why its first unreadable row cannot be read.
    """

    rows: list[dict[str, Any]]
    num_rows: int
    format: str | None
    encoding: str | None = None
    reason: str = ""


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
    where = " ".join(files)
    found = _spoken(sources["train"]) or readings(read.rows)
    fitting = [reading for reading in found if task in (None, reading.task)]
    if {reading.task for reading in fitting} <= LOOSE:
        for meant, what, fix in refusals(Columns(read.rows)):
            if task in (None, meant):
                raise UserError(where, what, accepted=fix)
    if not fitting:
        columns = ", ".join(dict.fromkeys(name for row in read.rows for name in row)) or "none"
        fix = f"{read.reason}; " if read.reason else ""
        fix += "see attnlab ls tasks for the columns of each task; rename them, or start from --task NAME"
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
        if errors and reading.task == "language_modelling" and task is None:
            # Any text can be modelled, but that is not what the rows are for.
            wrong = errors[0]
            fix = f"{wrong.accepted or 'repair the data'}; or name the task, --task {reading.task}"
            raise UserError(wrong.where, wrong.what, wrong.came, fix)
        start.comments += [f"{error.where}: {error.what}." for error in errors]
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
    options = dict(reading.options)
    if entry.attributes.get("reads") == "series":
        options |= _series(data, read.num_rows, comments)
    elif "validation" not in sources:
        drawn = {"validation": 0.1, "test": 0.1} if read.num_rows >= ENOUGH else {"validation": 0.2}
        drawn = {name: share for name, share in drawn.items() if name not in sources}
        data["split"] = drawn
        shares = " and ".join(f"{share:.0%} as {name}" for name, share in drawn.items())
        comments.append(
            f"One file of {read.num_rows:,} rows, so data.split draws {shares}; name files to use your own."
        )
    needed = {name: path for name, path in reading.columns.items() if _default(entry, name) != path}
    data |= {"format": read.format} if read.format else {}
    if read.encoding:
        data["encoding"] = read.encoding
        comments.append(f"The file is not UTF-8; it can be read as {read.encoding}: look at attnlab inspect.")
    data |= {"columns": needed} if needed else {}
    if entry.attributes.get("reads") != "series":
        options |= _lengths(reading, read.rows, comments)
    skipped, labels = _checked(entry, data, options)
    if skipped:
        data["on_bad_row"] = "skip"
        comments.append(
            f"{skipped:,} rows cannot be used and are left out (on_bad_row); attnlab inspect shows them."
        )
    if labels:
        options["labels"] = labels
        comments.append(f"{len(labels)} labels, written out because a split may lack one.")
    drawn = sum(data.get("split", {}).values())
    return Start(entry, options, data, comments, int(read.num_rows * (1 - drawn)))


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
        strict = load_class(f"pipelines.tasks.{entry.name}", Task)(**options)
        load_splits(DataConfig(**files), strict, required=("train",))
    labels = task.state().get("labels") or []
    is_text = all(isinstance(label, str) and not label.isdigit() for label in labels)
    wanted = "split" in data and is_text and "labels" not in options and len(labels) <= MOST_LABELS
    return skipped, [*labels] if wanted and not {"true", "false"} & set(labels) else []


def _series(data: dict[str, Any], num_rows: int, comments: list[str]) -> dict[str, int]:
    """Cut a series in time where it is one file; return lengths of which a part holds several windows.

    Raises:
        UserError: it is too short.
    """
    part = num_rows * 15 // 100
    whole = min(120, part // 2)
    horizon = whole // 5
    if whole - horizon < SHORTEST_CONTEXT:
        what = f"has {num_rows:,} rows, and a series to learn from needs about {SHORTEST_ROWS}"
        raise UserError(str(data["train"]), what, accepted="add rows")
    if "validation" not in data:
        file = data["train"]
        data |= {"train": f"{file}[:70%]", "validation": f"{file}[70%:85%]", "test": f"{file}[85%:]"}
        comments.append(f"One file of {num_rows:,} rows, which is cut in time; name files to use your own.")
    comments.append(f"Each forecast is of {horizon} rows from the {whole - horizon} before them.")
    return {"context_len": whole - horizon, "horizon": horizon}


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
    from pipelines.data.decode import read_bytes, unpack
    from pipelines.data.readers import FORMATS, SUFFIXES, TEXT, read_file, read_parallel, suffix_of
    from pipelines.data.table import BadRow, Table

    def rows_of(table: Table, format: str | None) -> _Rows:
        rows = list(islice(table.take(table.columns), MOST_ROWS))
        wrong = next((row.reason for row in rows if isinstance(row, BadRow)), "")
        reason = table.notes[-1] if table.num_rows == 1 and table.notes else wrong and f"its row {wrong}"
        found = [_named(row, table) for row in rows if isinstance(row, dict)]
        return _Rows(found, table.num_rows, format, reason=reason)

    if not isinstance(source, str):
        return rows_of(read_parallel(source), None)
    file = Path(split_part(source)[0])
    content = unpack(read_bytes(file), file, [])  # tells a folder or an archive from a file with rows
    encoding = _encoding(content)
    suffix = suffix_of(file)
    formats = {".csv": ("conll",), ".tsv": ("conll",), TEXT: ("conll", "tsv", "csv")}
    if suffix in SUFFIXES:
        read = rows_of(read_file(source, None, encoding, WANTED), None)
    for format in formats.get(suffix, () if suffix in SUFFIXES else FORMATS[:6]):
        with suppress(UserError):
            other = rows_of(read_file(source, format, encoding, WANTED), format)
            if (
                other.num_rows
                and len(other.rows) > 0.9 * min(other.num_rows, MOST_ROWS)
                and _fits(other, format)
            ):
                return replace(other, encoding=encoding)
    if suffix in SUFFIXES:
        return replace(read, encoding=encoding)
    if suffix == TEXT:
        return replace(rows_of(read_file(source, None, encoding), None), encoding=encoding)
    fix = f"rename it to end in .{', .'.join(FORMATS[:6])} or .txt"
    raise UserError(source, "the format is known neither from the name nor from the content", accepted=fix)


def _encoding(content: bytes) -> str | None:
    """Return the encoding to state: none for UTF-8, a byte order mark, or what is no text at all."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\x00" in content[:4096]:
        return None
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        with suppress(UnicodeDecodeError):
            content.decode(OTHER_ENCODING)
            return OTHER_ENCODING
    return None


def _fits(read: _Rows, format: str) -> bool:
    """Return whether rows look as if they had been written in a format, and not only can be read in it."""
    if format == "conll":
        return len(read.rows) > 1 and any(reading.task == "ner" for reading in readings(read.rows))
    has_names = format == "tsv" or "column_1" not in read.rows[0]  # tabs in every row are no accident
    return format in ("parquet", "json") or (len(read.rows[0]) > 1 and has_names)


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
