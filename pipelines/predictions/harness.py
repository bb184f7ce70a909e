"""`samples_<task>_<time>.jsonl` of lm-evaluation-harness (`lm_eval --log_samples`), 0.4.

A line is a document under one filter: `doc_id`, `doc`, `target`, `resps`, `filtered_resps`, since 0.4.5
`filter` and `metrics` (the names of its scores), and each score under its name. A task with two filters
(gsm8k: strict-match, flexible-extract) has two lines for each document; a score is then called
NAME,FILTER, as in the harness's own tables. Read in lm_eval/loggers/evaluation_tracker.py of 0.4.9.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.errors import UserError
from pipelines.predictions.outputs import Outputs

Rows = Sequence[dict[str, Any]]
NO_FILTER = "none"
NOT_SCORES = frozenset(
    {
        *("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"),
        *("doc_hash", "prompt_hash", "target_hash", "task_name", "schema_version", "input"),
    }
)


def is_samples(rows: Rows) -> bool:
    """Return whether rows are logged samples."""
    return bool(rows) and all("doc_id" in row and ("filtered_resps" in row or "resps" in row) for row in rows)


def read(rows: Rows, where: str) -> Outputs:
    """Return the scores of every document, and what was generated for it.

    Raises:
        UserError: a filter has other documents than the first.
    """
    filters = list(dict.fromkeys(str(row.get("filter", NO_FILTER)) for row in rows))
    groups = {name: [row for row in rows if str(row.get("filter", NO_FILTER)) == name] for name in filters}
    first = groups[filters[0]]
    ids = tuple(str(row["doc_id"]) for row in first)
    scores: dict[str, list[Any]] = {}
    for name, group in groups.items():
        by_id = {str(row["doc_id"]): row for row in group}
        if len(group) != len(ids) or by_id.keys() != set(ids):
            what = f"has other documents under the filter {name!r} than under {filters[0]!r}"
            raise UserError(where, what, accepted="log the samples again")
        for score in _names(group[0]):
            called = score if len(filters) == 1 else f"{score},{name}"
            scores[called] = [by_id[one].get(score) for one in ids]
    generated = [_generated(row) for row in first]
    why = "its answers are likelihoods, and no text"
    if len(filters) > 1:
        why = f"it has an answer under each of the filters {', '.join(filters)}: keep the lines of one"
    return Outputs(
        where=where,
        layout="samples of lm-evaluation-harness, id from doc_id",
        count=len(first),
        ids=ids,
        predictions=None if len(filters) > 1 or None in generated else generated,
        no_predictions=why,
        scores=scores,
        shown=[row.get("target") for row in first],
    )


def _names(row: dict[str, Any]) -> list[str]:
    """Return the names of the scores of a line."""
    stated = row.get("metrics")
    if isinstance(stated, list) and stated:
        return [str(name) for name in stated if name in row]
    return [name for name, value in row.items() if name not in NOT_SCORES and not isinstance(value, str)]


def _generated(row: dict[str, Any]) -> str | None:
    """Return the generated text; None where the request was for a likelihood."""
    value: Any = row.get("filtered_resps", row.get("resps"))
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) else None
