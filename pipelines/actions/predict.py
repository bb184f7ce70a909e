"""`attnlab predict`: write the predictions of a finished run, one JSON line per input."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import torch

from pipelines.config.data import DataConfig
from pipelines.data import features as feature_cache
from pipelines.data.columns import listed, value_at, wanted
from pipelines.data.decode import decode, read_bytes, unpack
from pipelines.data.readers import SUFFIXES, TEXT, json_row, read_file, suffix_of
from pipelines.data.table import BadRow, Row, Table, of_rows
from pipelines.errors import UserError, raise_all
from pipelines.runs.load import LoadedRun, load_run_model
from pipelines.shown import json_line, plural, printable
from pipelines.storage.paths import require_writable, rows_of_part, shown, split_part
from pipelines.tasks.base import Example, Task
from pipelines.tasks.shared.media_classification import MediaClassification
from pipelines.train.evaluate import by_example, predict_features
from pipelines.train.speed.unpadding import unpadded

CHUNK_EXAMPLES = 512  # predicted together, then written
MOST_ERRORS = 10
LINE = "a line of text"  # the only column of a row that is no JSON object


def predict_command(run: str, source: str, out: str | None) -> None:
    """Predict every row of `source` with the model of a finished run.

    Args:
        source: a data file, or lines of text or JSON ("-" for standard input); a line that begins with "{"
            is a JSON object.
        out: file to write; None: standard output.

    Raises:
        UserError: there is no finished run, a row cannot be predicted, or `out` cannot be written.
    """
    require_writable("--out", out, [source])
    finished = load_run_model(run)
    table = read_input(source, finished.task, finished.config.data)
    examples = input_examples(table, finished.task, finished.config.data.columns)
    if out is None:
        _write(sys.stdout, finished, examples)
        return
    try:
        with open(out, "w", encoding="utf-8") as file:
            _write(file, finished, examples)
    except OSError as error:  # a full disk, for example
        error.filename = error.filename or out
        raise


def _write(file: TextIO, finished: LoadedRun, examples: Sequence[Example]) -> None:
    for answer in answers(finished, examples):
        file.write(json_line(answer) + "\n")
        file.flush()


@torch.no_grad()
def answers(finished: LoadedRun, examples: Sequence[Example]) -> Iterator[dict[str, Any]]:
    """Yield the task's answer to each example with its id, in order."""
    task, accelerator, max_tokens = finished.task, finished.accelerator, finished.config.eval_max_tokens
    for begin in range(0, len(examples), CHUNK_EXAMPLES):
        chunk = examples[begin : begin + CHUNK_EXAMPLES]
        # The user's own ids need not be unique; these are.
        own = [{**example, "id": str(number)} for number, example in enumerate(chunk)]
        features = feature_cache.build(task, own, "predict", None, "")
        with unpadded(finished.model, task, features, accelerator.device) as unpadding:
            raws = predict_features(accelerator, finished.model, task, features, max_tokens, unpadding)
        for example, group, given in zip(own, by_example(own, features, raws), chunk):
            yield {"id": given["id"], **task.answer(example, group)}


# ---- input
def read_input(source: str, task: Task, data: DataConfig) -> Table:
    """Return the rows of a data file, recognized by its suffix, or of lines of text or JSON.

    Args:
        data: how the run read its data: its column names, by which delimiter and header line are found; its
            encoding; its format, for a file whose name ends as that of the run's file does. Where that name
            states none (.txt), the rows must look like those of the format, else they are lines.

    Raises:
        UserError: the file cannot be read, or has no rows.
    """
    columns = [*wanted(task, data.columns), *wanted(task, {}), LINE]
    format = None if source == "-" else _format(source, data)
    if source != "-" and suffix_of(Path(split_part(source)[0])) in SUFFIXES:
        table = read_file(source, format, data.encoding, columns)
    elif format is not None and (found := _of_format(source, format, task, data, columns)):
        table = found
        print(printable(f"{shown(source)}: read as {format}, as the run's data"), file=sys.stderr)
    else:
        where = "standard input" if source == "-" else shown(source)
        lines = decode(_content(source), data.encoding, where).split("\n")
        numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
        rows = [_row(line.removesuffix("\r")) for _, line in numbered]
        table = of_rows(where, rows, [number for number, _ in numbered])
    if not table.num_rows:
        raise UserError(table.where, "holds no input", accepted="give one input per line")
    return table


def line_table(line: str) -> Table:
    """Return the one row of a line of text or JSON on the command line.

    Raises:
        UserError: it is empty.
    """
    if not line.strip():
        raise UserError("--input", "holds no input", accepted="write a line of text, or a JSON object")
    return of_rows("--input", [_row(line)])


def one_input(line: str, task: Task, data: DataConfig) -> Table:
    """Return the one row of a line of text or JSON, or of a file of one row: "a.csv[3:4]" is its fourth.

    The name of a file is a line where the task reads a file, such as an image.

    Raises:
        UserError: there is no such file, or not one row in it.
    """
    file, part = split_part(line)
    is_data = suffix_of(Path(file)) in (*SUFFIXES, TEXT)
    if line != "-" and not os.path.isfile(file):
        if is_data and len(line.split()) == 1:
            raise UserError("--input", "there is no such file", line, "name a file, or write a line of text")
        return line_table(line)
    if line != "-" and not is_data and isinstance(task, MediaClassification):
        return line_table(line)
    table = read_input(file, task, data)
    table = table.part(rows_of_part(part, table.num_rows))
    if table.num_rows != 1:
        what = f"names {plural(table.num_rows, 'input')}, and one is taken"
        raise UserError("--input", what, line, f"name one: '{file}[0:1]' is the first")
    return table


def _format(source: str, data: DataConfig) -> str | None:
    """Return the format that the run states for files like this one; None: the name tells it."""
    if not isinstance(data.train, str):
        return None
    own, asked = (suffix_of(Path(split_part(name)[0])) for name in (data.train, source))
    return data.format if own == asked else None


def _of_format(
    source: str, format: str, task: Task, data: DataConfig, columns: Sequence[str]
) -> Table | None:
    """Return the rows of a file whose name states no format, if they look as if written in the run's.

    All rows can be read and have a column that the task reads; in CoNLL some sentence has several lines.
    """
    if format == "lines":
        return None
    try:
        table = read_file(source, format, data.encoding, columns)
    except UserError:
        return None
    rows = table.take(table.columns)
    paths = {name: data.columns.get(name, column.default) for name, column in task.columns.items()}
    inputs = {path.split(".")[0] for name, path in paths.items() if not task.columns[name].is_target}
    has_words = format != "conll" or any(isinstance(row, dict) and len(row["tokens"]) > 1 for row in rows)
    is_read = bool(inputs & set(table.columns)) and not any(isinstance(row, BadRow) for row in rows)
    return table if is_read and has_words else None


def _content(source: str) -> bytes:
    return sys.stdin.buffer.read() if source == "-" else unpack(read_bytes(Path(source)), Path(source), [])


def _row(line: str) -> Row | BadRow:
    return json_row(line) if line.lstrip().startswith("{") else {LINE: line}


def input_examples(table: Table, task: Task, columns: dict[str, str]) -> list[Example]:
    """Check all rows and return them under canonical column names, without the targets.

    A column is searched under the name in the run's data, its canonical name and the task's default name.

    Raises:
        UserError: with the first errors found, each with its row.
    """
    examples: list[Example] = []
    errors: list[UserError] = []
    in_lines = LINE in table.columns
    for index, row in enumerate(table.take(table.columns)):
        example = {} if isinstance(row, BadRow) else _example(row, index, task, columns)
        missing = [
            name
            for name, column in task.columns.items()
            if column.required and not column.is_target and example.get(name) is None
        ]
        reason = row.reason if isinstance(row, BadRow) else f"has no {missing[0]!r}" if missing else None
        reason = reason or task.check(example)
        if reason:
            there = listed(table.columns) if missing and not in_lines else None
            errors.append(UserError(table.place(index), reason, accepted=there))
        examples.append(example)
    if len(errors) > MOST_ERRORS:
        more = UserError(table.where, f"{plural(len(errors) - MOST_ERRORS, 'more row')} like these")
        errors = [*errors[:MOST_ERRORS], more]
    raise_all(errors)
    return list(task.inputs(examples))


def _example(row: Row, index: int, task: Task, columns: dict[str, str]) -> dict[str, Any]:
    example = {} if LINE in row else _columns(row, task, columns)
    line = row.get(LINE, row.get("text"))
    if not example and isinstance(line, str):  # a row of a text alone is a line too
        example = dict(task.from_text(line))
    identity = value_at(row, columns.get("id", "id"))
    example["id"] = str(index + 1) if identity is None else str(identity)
    return example


def _columns(row: Row, task: Task, columns: dict[str, str]) -> dict[str, Any]:
    """Return the inputs of a row under their canonical names."""
    example: dict[str, Any] = {}
    for name, column in task.columns.items():
        places = [columns[name]] if name in columns else []
        values = (value_at(row, path) for path in (*places, name, column.default))
        found = next((value for value in values if value is not None), None)
        if found is not None and not column.is_target:
            example[name] = found
    return example
