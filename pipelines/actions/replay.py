"""`attnlab verify --replay N`: train runs again that chance draws, and compare the bits."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from pipelines.ablation.cell import Cell
from pipelines.actions.reproduce import DIFFERENT, repeat_run
from pipelines.shown import printable


def drawn(runs: Sequence[Cell], digest: str, count: int) -> list[Cell]:
    """Return `count` of the runs, in an order that only the digest decides."""
    return sorted(runs, key=lambda run: hashlib.sha256(f"{digest} {run.label}".encode()).digest())[:count]


def new_digest() -> str:
    """Return a digest that nobody knows beforehand: an author who knew it would forge the other runs."""
    return secrets.token_hex(16)


def differences(name: str, run: Path) -> Iterator[str]:
    """Train one finished run again in a folder of its own; yield what is different.

    Raises:
        UserError: it cannot be trained here: its files are missing, or it needs several processes.
    """
    with TemporaryDirectory(prefix="attnlab-replay-") as folder:
        again = repeat_run(name, run, Path(folder) / run.name)
    print(printable(f"trained again: {again}"))
    if again.result == DIFFERENT:
        yield f"{name}: trained again, it is different ({again.detail})"
