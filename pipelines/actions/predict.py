"""`attnlab predict`: write the predictions of a finished run, one JSON line per input."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import torch

from pipelines.data import features as feature_cache
from pipelines.data.columns import value_at, wanted
from pipelines.data.decode import decode
from pipelines.data.readers import SUFFIXES, read_file
from pipelines.data.table import BadRow, Table, of_rows
from pipelines.errors import UserError, raise_all
from pipelines.runs.load import LoadedRun, load_run_model
from pipelines.tasks.base import Example, Task
from pipelines.train.evaluate import by_example, predict_features

CHUNK_EXAMPLES = 512  # predicted together, then written
MOST_ERRORS = 10


def predict_command(run: str, source: str, out: str | None) -> None:
    """Predict every row of `source` with the model of a finished run.

    Args:
        source: a data file, or lines of text or JSON ("-" for standard input); a line that begins with "{"
            is a JSON object.
        out: file to write; None: standard output.

    Raises:
        UserError: there is no finished run, or a row cannot be predicted.
    """
    finished = load_run_model(run)
    table = read_input(source, finished.task, finished.config.data.encoding)
    examples = input_examples(table, finished.task, finished.config.data.columns)
    if out is None:
        _write(sys.stdout, finished, examples)
        return
    with open(out, "w", encoding="utf-8") as file:
        _write(file, finished, examples)


def _write(file: TextIO, finished: LoadedRun, examples: Sequence[Example]) -> None:
    for answer in answers(finished, examples):
        file.write(json.dumps(answer, ensure_ascii=False) + "\n")
        file.flush()


@torch.no_grad()
def answers(finished: LoadedRun, examples: Sequence[Example]) -> Iterator[dict[str, Any]]:
    """Yield the task's answer to each example with its id, in order."""
    task = finished.task
    for begin in range(0, len(examples), CHUNK_EXAMPLES):
        chunk = examples[begin : begin + CHUNK_EXAMPLES]
        # The user's own ids need not be unique; these are.
        own = [{**example, "id": str(number)} for number, example in enumerate(chunk)]
        features = feature_cache.build(task, own, "predict", None, "")
        raws = predict_features(
            finished.accelerator, finished.model, task, features, finished.config.eval_max_tokens
        )
        for example, group, given in zip(own, by_example(own, features, raws), chunk):
            yield {"id": given["id"], **task.answer(example, group)}


# ---- input
def read_input(source: str, task: Task, encoding: str | None = None) -> Table:
    """Return the rows of a data file, recognized by its suffix, or of lines of text or JSON.

    Raises:
        UserError: the file cannot be read, or has no rows.
    """
    if source != "-" and SUFFIXES.keys() & {suffix.lower() for suffix in Path(source).suffixes}:
        table = read_file(source, None, encoding, wanted(task, {}))
    else:
        where = "standard input" if source == "-" else source
        content = sys.stdin.buffer.read() if source == "-" else _read(source)
        lines = decode(content, encoding, where).split("\n")
        numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
        rows = [_row(line.rstrip("\r"), task) for _, line in numbered]
        table = of_rows(where, rows, [number for number, _ in numbered])
    if not table.num_rows:
        raise UserError(table.where, "holds no input", accepted="give one input per line")
    return table


def _read(source: str) -> bytes:
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise UserError(source, f"cannot be read: {error.strerror}") from error


def _row(line: str, task: Task) -> dict[str, Any] | BadRow:
    if not line.lstrip().startswith("{"):
        return dict(task.from_text(line))
    try:
        return json.loads(line)
    except ValueError as error:
        return BadRow(f"is not valid JSON ({error})")


def input_examples(table: Table, task: Task, columns: dict[str, str]) -> list[Example]:
    """Check all rows and return them under canonical column names, without the targets.

    A column is searched under the name in the run's data, its canonical name and the task's default name.

    Raises:
        UserError: with the first errors found, each with its row.
    """
    examples: list[Example] = []
    errors: list[UserError] = []
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
            errors.append(UserError(table.place(index), reason))
        examples.append(example)
    if len(errors) > MOST_ERRORS:
        more = UserError(table.where, f"{len(errors) - MOST_ERRORS:,} more rows like these")
        errors = [*errors[:MOST_ERRORS], more]
    raise_all(errors)
    return list(task.inputs(examples))


def _example(row: dict[str, Any], index: int, task: Task, columns: dict[str, str]) -> dict[str, Any]:
    example: dict[str, Any] = {}
    for name, column in task.columns.items():
        places = [columns[name]] if name in columns else []
        values = (value_at(row, path) for path in (*places, name, column.default))
        found = next((value for value in values if value is not None), None)
        if found is not None and not column.is_target:
            example[name] = found
    identity = value_at(row, columns.get("id", "id"))
    example["id"] = str(index + 1) if identity is None else str(identity)
    return example
