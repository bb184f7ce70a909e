"""`details_<task>_<time>.parquet` of lighteval (`--save-details`).

A row is a document. Since 0.11 its columns are the structs `doc` (query, id, ...), `model_response` (text,
a list, ...) and `metric` (a field for each score); before, `example`, `full_prompt`, `gold`, `predictions`
(a list, or the text of one) and `metrics`. Rows of both are in the order of the task's documents.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from pipelines.predictions.outputs import Outputs

Rows = Sequence[dict[str, Any]]


def is_details(rows: Rows) -> bool:
    """Return whether rows are details of lighteval, of either layout."""
    first = rows[0] if rows else {}
    now = isinstance(first.get("metric"), dict) and isinstance(first.get("doc"), dict)
    before = isinstance(first.get("metrics"), dict) and ("full_prompt" in first or "example" in first)
    return now or before


def read(rows: Rows, where: str) -> Outputs:
    """Return the scores of every document, and what was generated for it."""
    is_now = "metric" in rows[0]
    scored = [row.get("metric" if is_now else "metrics") or {} for row in rows]
    names = list(dict.fromkeys(name for row in scored for name in row))
    docs = [row.get("doc") or {} for row in rows]
    answers = [(row.get("model_response") or {}).get("text") if is_now else _list(row) for row in rows]
    texts = [
        one[0] if isinstance(one, list) and len(one) == 1 and isinstance(one[0], str) else None
        for one in answers
    ]
    return Outputs(
        where=where,
        layout="details of lighteval, in the order of its documents",
        count=len(rows),
        predictions=None if None in texts else texts,
        no_predictions="it has no text, or several, for a document",
        scores={name: [row.get(name) for row in scored] for name in names},
        shown=[doc.get("query") for doc in docs] if is_now else [row.get("example") for row in rows],
    )


def _list(row: dict[str, Any]) -> Any:
    """Return the predictions of a row of the earlier layout, which may be the text of a list."""
    value = row.get("predictions")
    if isinstance(value, str) and value.startswith("["):
        try:
            return ast.literal_eval(value)
        except (ValueError, SyntaxError):
            return [value]
    return value
