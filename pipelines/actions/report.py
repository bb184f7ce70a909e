"""`attnlab report`: compute the results again from stored statistics and write the reports."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from pipelines import report
from pipelines.ablation.results import results_of, stored_in, told_apart, write
from pipelines.errors import UserError
from pipelines.storage import atomic
from pipelines.storage.names import REPORT, TOGETHER


def report_command(folders: Sequence[str], out: str | None) -> None:
    """`attnlab report`: compute everything again from stored statistics and render it; no model is needed.

    Raises:
        UserError: no ablation folder, nothing finished in it, or ablations that have no baseline in common.
    """
    ended = [stored_in(Path(folder)) for folder in folders]
    if len(ended) > 1 and out is None:
        raise UserError(
            "report", "several ablations need a folder of their own", accepted="name it with --out"
        )
    target = Path(out or folders[0])
    results = results_of(told_apart(ended), target)
    write(results, target)
    if len(ended) > 1:
        atomic.write_json(target / TOGETHER, [os.path.relpath(folder, target) for folder in folders])
    report.print_table(results, Console(highlight=False), target)
    Console(stderr=True, highlight=False).print(f"report: {target / REPORT}", soft_wrap=True)
