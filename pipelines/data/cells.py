"""Cells of CSV that hold a list or an object: as JSON writes one, or as Python prints one (pandas does)."""

from __future__ import annotations

import ast
import io
import json
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

BRACKETS = ({("[", "]")}, {("{", "}")})
VALUES = (tokenize.STRING, tokenize.NUMBER)
CONSTANTS = {"None": None, "True": True, "False": False, "nan": None}


def decode_columns(header: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Turn each column whose cells are all lists, or all objects, into a column of these."""
    for name in header:
        cells = [row[name] for row in rows if row[name] is not None]
        if not cells or {(cell[0], cell[-1]) for cell in cells} not in BRACKETS:
            continue
        decoded = _all(json.loads, cells) or _all(of_python, cells)
        if decoded is None:
            continue
        found = iter(decoded)
        for row in rows:
            row[name] = None if row[name] is None else next(found)


def _all(read: Any, cells: Iterable[str]) -> list[Any] | None:
    """Return what a reader makes of every cell; None if it cannot read one of them."""
    try:
        return [read(cell) for cell in cells]
    except (ValueError, RecursionError):
        return None


def of_python(cell: str) -> Any:
    """Return a list or an object as Python prints it, with tuples as lists.

    Arrays of numpy are lists: `array(['a'], dtype=object)`, or `['a' 'b']` and `[1 2]` without commas.

    Raises:
        ValueError: it is none of these.
    """
    try:
        return _value(ast.parse(" ".join(_with_commas(cell)), mode="eval").body)
    except (SyntaxError, tokenize.TokenError, MemoryError) as error:
        raise ValueError(str(error)) from error


def _with_commas(cell: str) -> Iterator[str]:
    """Yield the tokens of a cell, with a comma between neighbouring values."""
    before: tokenize.TokenInfo | None = None
    for token in tokenize.generate_tokens(io.StringIO(" ".join(cell.splitlines())).readline):
        if before is not None and before.end < token.start and _ends(before) and _begins(token):
            yield ","
        yield token.string
        before = token


def _ends(token: tokenize.TokenInfo) -> bool:
    return token.type in VALUES or token.string in ("]", "}", ")", *CONSTANTS)


def _begins(token: tokenize.TokenInfo) -> bool:
    return token.type in VALUES or token.string in ("[", "{", "(", "-", *CONSTANTS)


def _value(node: ast.expr) -> Any:
    """Return the value of a literal; a call of anything but numpy's array has none."""
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(inner) for inner in node.elts]
    if isinstance(node, ast.Dict):
        return {str(_value(name)): _value(inner) for name, inner in zip(node.keys, node.values) if name}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "array":
        return _value(node.args[0]) if len(node.args) == 1 else _none(node)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _value(node.operand)
        return -number if isinstance(number, int | float) else _none(node)
    if isinstance(node, ast.Name) and node.id in CONSTANTS:  # the parser knows the others
        return CONSTANTS[node.id]
    if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, str | int | float)):
        return node.value
    return _none(node)


def _none(node: ast.expr) -> Any:
    raise ValueError(f"{ast.unparse(node)} is no value")
