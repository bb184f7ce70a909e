"""Rows with named columns (JSON lines, CSV, TSV, Parquet): which holds ids, predictions and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.data.columns import listed
from pipelines.errors import UserError
from pipelines.predictions.outputs import Outputs

Rows = Sequence[dict[str, Any]]
IDS = ("id", "example_id", "doc_id", "qid", "question_id", "guid", "idx", "index")
PREDICTIONS = (
    *("prediction", "predictions", "predicted", "pred", "prediction_text", "predicted_label", "answer"),
    *("generated", "generated_text", "hypothesis", "output", "response", "completion", "tags", "label"),
)
CLUSTER = "cluster"
# What tells which example a row is of, and is none of the model.
EXAMPLE = (
    *("reference", "references", "label", "labels", "gold", "target", "targets", "question", "tokens"),
    *("words", "source", "premise", "context", "document"),
)


@dataclass(frozen=True)
class NamedColumns:
    """Columns that the user names; None: the usual names."""

    id: str | None = None
    prediction: str | None = None


def read(rows: Rows, where: str, names: NamedColumns) -> Outputs:
    """Return what rows hold; a column that has a usual name is taken if there is only one such.

    Raises:
        UserError: a named column is missing, or a row has no id.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    by_id = _chosen(columns, names.id, IDS, where, "--id", only_first=True)
    said = _chosen(columns, names.prediction, PREDICTIONS, where, "--prediction")
    ids = None if by_id is None else tuple(_name(row, by_id, where, n) for n, row in enumerate(rows, start=1))
    known = [name for name in EXAMPLE if name in columns and name not in (by_id, said)]
    why = f"no column of it has a usual name for predictions ({listed(columns)}; --prediction names one)"
    taken = [f"{what} from {name}" for what, name in (("id", by_id), ("prediction", said)) if name]
    return Outputs(
        where=where,
        layout=f"a row an example{''.join(f', {part}' for part in taken)}",
        count=len(rows),
        ids=ids,
        predictions=None if said is None else [row.get(said) for row in rows],
        no_predictions=why,
        scores={name: [row.get(name) for row in rows] for name in columns if name not in (by_id, CLUSTER)},
        shown=[{name: row.get(name) for name in known} for row in rows] if known else None,
        clusters=tuple(str(row.get(CLUSTER)) for row in rows) if CLUSTER in columns else None,
    )


def _chosen(
    columns: Sequence[str],
    named: str | None,
    usual: Sequence[str],
    where: str,
    option: str,
    *,
    only_first: bool = False,
) -> str | None:
    """Return the column that the user names, if this file has it, else one with a usual name; None: none.

    Raises:
        UserError: the named column is missing, or several have usual names.
    """
    there = [name for name in usual if name in columns]
    if named is not None and named in columns:
        return named
    if named is not None and not there:
        raise UserError(where, f"has no column {named!r}", accepted=f"{listed(columns)} ({option})")
    if len(there) > 1 and not only_first:
        # `prediction` beside `label` is the usual layout, where the label is the reference.
        exact = [name for name in there if name.startswith("pred")]
        if len(exact) != 1:
            what = f"may have its predictions in {' or '.join(there)}"
            raise UserError(where, what, accepted=f"name the column with {option}")
        there = exact
    return there[0] if there else None


def _name(row: dict[str, Any], column: str, where: str, number: int) -> str:
    value = row.get(column)
    if value is None or isinstance(value, list | dict):
        came = "nothing" if value is None else type(value).__name__
        raise UserError(f"{where}, row {number}", f"has no id in {column!r}", came, "give every row an id")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
