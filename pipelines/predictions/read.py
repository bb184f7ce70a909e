"""Read a file of predictions or scores: its format is known by its content."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.data import plain_text
from pipelines.data.decode import decode, read_bytes, unpack
from pipelines.data.readers import TEXT, format_of, read_file, suffix_of
from pipelines.data.table import BadRow, Table
from pipelines.errors import UserError
from pipelines.predictions import harness, inspect_log, lighteval, question_json, table
from pipelines.predictions.outputs import Outputs, require_distinct
from pipelines.predictions.table import NamedColumns
from pipelines.storage.names import MANIFEST
from pipelines.storage.paths import shown

INDEXED = "index\tprediction"  # the first line of predict_results.txt of run_glue and run_classification
TABLES = ("csv", "tsv", "jsonl", "parquet")
REPAIR = "repair the line, or leave the example out of every file"


def read(path: str, names: NamedColumns, encoding: str | None = None) -> Outputs:
    """Return what a file holds.

    Args:
        names: columns that the user names.
        encoding: of text; None: that of a byte order mark, else UTF-8.

    Raises:
        UserError: there is no such file, or it is damaged or of no known format.
    """
    found = _read(Path(path), names, encoding)
    if found.ids is not None:
        require_distinct(found.ids, found.where)
    if not found.count:
        raise UserError(found.where, "holds no example", accepted="give a file with predictions")
    return found


def _read(file: Path, names: NamedColumns, encoding: str | None) -> Outputs:
    where = shown(str(file))
    if file.is_dir():
        fix = f"name a file in it; a run of attnlab has {MANIFEST}"
        raise UserError(where, "is a folder, and no finished run", accepted=fix)
    if file.is_file() and (zipfile.is_zipfile(file) or (file.suffix.lower() == EVAL and not _is_text(file))):
        return inspect_log.read_zip(file, where)
    suffix = suffix_of(file)
    kind = format_of(file, where) if suffix in SUFFIXES else "lines"
    if kind in TABLES or read_start(file).startswith(b"PAR1"):
        return _of_table(read_file(str(file), kind if kind in TABLES else "parquet", encoding), names)
    notes: list[str] = []
    text = decode(unpack(read_bytes(file), file, notes), encoding, where)
    if kind == "json" or (suffix != TEXT and _is_json(text)):
        return _of_json(text, where, file, names)
    if text.startswith((f"{INDEXED}\n", f"{INDEXED}\r\n")):
        return _of_table(read_file(str(file), "tsv", encoding), names)
    return _of_lines(text, where, notes)


def _is_json(text: str) -> bool:
    """Return whether the text of a file of another name is JSON."""
    first = text.lstrip()[:1]
    try:
        return first in ("{", "[") and json.loads(text) is not None
    except (ValueError, RecursionError):
        return False


EVAL = ".eval"  # of a log of inspect_ai
SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")


def _is_text(file: Path) -> bool:
    """Return whether a log is JSON under the other suffix."""
    return read_start(file).lstrip()[:1] == b"{"


def read_start(file: Path) -> bytes:
    """Return the first bytes of a file; none where it cannot be read, which its reader tells."""
    try:
        with open(file, "rb") as stream:
            return stream.read(4)
    except OSError:
        return b""


def _of_lines(text: str, where: str, notes: list[str]) -> Outputs:
    """One prediction a line: predictions.txt of run_ner, generated_predictions.txt of run_translation."""
    lines = plain_text.lines_of(text)
    return Outputs(
        where=where,
        layout="one prediction a line",
        count=len(lines),
        predictions=lines,
        scores=_as_scores(lines),
        may_end_empty=text.endswith("\n"),
        notes=notes,
    )


def _of_json(text: str, where: str, file: Path, names: NamedColumns) -> Outputs:
    try:
        value: Any = json.loads(text)
    except RecursionError as error:
        raise UserError(where, "is nested without end", accepted="give a list of predictions") from error
    except ValueError as error:
        if "Extra data" in str(error):
            return _of_table(read_file(str(file), "jsonl"), names)
        fix = "the file may be cut off; write it again"
        raise UserError(where, f"is not valid JSON ({error})", accepted=fix) from error
    return _of_value(value, where, names)


def _of_value(value: Any, where: str, names: NamedColumns) -> Outputs:
    if inspect_log.is_log(value):
        return inspect_log.read_json(value, where)
    if question_json.is_answers(value):
        return question_json.read(value, where)
    if _is_table(value):
        return _of_rows(value, where, names)
    if isinstance(value, list) and not any(isinstance(row, dict) for row in value):
        layout = "a JSON list of predictions"
        return Outputs(
            where=where, layout=layout, count=len(value), predictions=value, scores=_as_scores(value)
        )
    if isinstance(value, dict) and isinstance(value.get("predictions"), list):
        return _of_value(value["predictions"], where, names)
    tables = [one for one in value.values() if _is_table(one)] if isinstance(value, dict) else []
    if len(tables) == 1:  # as comet-score writes: system -> rows
        return _of_rows(tables[0], where, names)
    what = "is JSON of no known kind"
    fix = "a list of predictions, a list of objects, {id: answer}, or a log of inspect_ai"
    raise UserError(where, what, accepted=fix)


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _as_scores(values: Sequence[Any]) -> dict[str, Sequence[Any]]:
    """Return values that may be scores too: a number a line has no name, so it is called value."""
    return {"value": values} if values and _is_number(values[0]) else {}


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float | str) and math.isfinite(float(value))
    except (ValueError, OverflowError):
        return False


def _of_table(rows: Table, names: NamedColumns) -> Outputs:
    taken = rows.take(rows.columns)
    for index, row in enumerate(taken):
        if isinstance(row, BadRow):
            raise UserError(rows.place(index), row.reason, accepted=REPAIR)
    return _of_rows([row for row in taken if isinstance(row, dict)], rows.where, names)


def _of_rows(rows: list[dict[str, Any]], where: str, names: NamedColumns) -> Outputs:
    if harness.is_samples(rows):
        return harness.read(rows, where)
    if lighteval.is_details(rows):
        return lighteval.read(rows, where)
    return table.read(rows, where, names)
