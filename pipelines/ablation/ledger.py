"""The ledger of a run store: every look at a comparison on a test set, appended and chained by hashes.

Ten ablations on one test set are ten chances of a false finding, whatever each of them registered. So
`ablate` and `report` note what they show: which test set, which ablation, when, and p.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from pipelines.errors import UserError
from pipelines.storage import atomic, reading
from pipelines.storage.lock import lock
from pipelines.storage.names import LEDGER, LEDGER_LOCK
from pipelines.storage.sealed import digest

FIX = "put it back from a copy: without it nobody knows how often a test set was looked at"


class NotedLook(TypedDict):
    """One comparison that was looked at; `finished` of the `planned` runs of its ablation had ended."""

    time: str
    test: str  # hash of the examples
    ablation: str  # seal of its registration
    cell: str
    arm: str
    metric: str
    p: float | None
    finished: int
    planned: int


class LedgerLine(NotedLook):
    """A line of the ledger."""

    previous: str  # hash of the line before; "" in the first
    hash: str


def read(store: Path) -> list[LedgerLine]:
    """Return the lines of a store's ledger; none where there is none.

    Raises:
        UserError: it is damaged, or a line does not follow from the line before.
    """
    path = store / LEDGER
    if not reading.is_there(path):
        return []
    lines = cast(list[LedgerLine], reading.json_lines(path, FIX, LedgerLine))
    previous = ""
    for number, line in enumerate(lines, start=1):
        if line["previous"] != previous or line["hash"] != _hash(line):
            raise UserError(f"{path}, line {number}", "does not follow from the line before", accepted=FIX)
        previous = line["hash"]
    return lines


def note(store: Path, looks: Sequence[NotedLook]) -> list[LedgerLine]:
    """Append the looks that show something new, and return the whole ledger.

    A comparison that shows the same p as at its last look is the same look.

    Raises:
        ReadOnly: there is something new, and this process may not write it.
    """
    if not new_looks(read(store), looks):  # a reader without the right to write adds nothing either
        return read(store)
    store.mkdir(parents=True, exist_ok=True)
    with lock(store / LEDGER_LOCK, wait=True):
        known = read(store)
        for look in new_looks(known, looks):
            entry: LedgerLine = {**look, "previous": known[-1]["hash"] if known else "", "hash": ""}
            known.append({**entry, "hash": _hash(entry)})
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in known)
        atomic.write_bytes(store / LEDGER, text.encode())
    return known


def new_looks(known: Sequence[LedgerLine], looks: Sequence[NotedLook]) -> list[NotedLook]:
    """Return the looks that show something that the lines of a ledger do not have."""
    last = {_key(line): line for line in known}
    return [look for look in looks if not _is_same(last.get(_key(look)), look)]


def looks_of(
    rows: Sequence[Mapping[str, Any]], tests: Mapping[str, str], ablation: str, finished: int, planned: int
) -> list[NotedLook]:
    """Return the looks at the primary comparisons of one ablation.

    Args:
        rows: of its results.json, with its own names of cells.
        tests: cell -> hash of the examples that it is scored on.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return [
        {
            "time": now,
            "test": tests[row["cell"]],
            "ablation": ablation,
            "cell": row["cell"],
            "arm": row["arm"],
            "metric": row["metric"],
            "p": row["p"],
            "finished": finished,
            "planned": planned,
        }
        for row in rows
        if row["primary"] and row["cell"] in tests
    ]


def on_tests(lines: Sequence[LedgerLine], tests: Mapping[str, str]) -> Iterator[LedgerLine]:
    """Yield the looks at the given test sets, in their order."""
    wanted = set(tests.values())
    return (line for line in lines if line["test"] in wanted)


def _key(look: NotedLook) -> tuple[str, ...]:
    return look["ablation"], look["test"], look["cell"], look["arm"], look["metric"]


def _is_same(before: NotedLook | None, now: NotedLook) -> bool:
    return before is not None and (before["p"], before["finished"]) == (now["p"], now["finished"])


def _hash(entry: LedgerLine) -> str:
    return digest({name: value for name, value in entry.items() if name != "hash"})
