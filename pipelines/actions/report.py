"""`attnlab report`: compute the results again from stored statistics and write the reports."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pipelines import report
from pipelines.ablation import looks
from pipelines.ablation.results import ended_ablation, results_of, with_unique_cells, write
from pipelines.actions.answers import Judged
from pipelines.actions.answers.judged import judged
from pipelines.actions.compare import conclude
from pipelines.comparison.expectation import Expected
from pipelines.errors import UserError
from pipelines.storage import atomic, reading
from pipelines.storage.names import (
    COMPARISON,
    IDENTITY,
    REGISTRATION,
    REPORT,
    REPORT_FILES,
    REPORTS,
    RESULTS,
    RUNS,
    TOGETHER,
)
from pipelines.storage.paths import require_writable_folder
from pipelines.terminal import Terminal


def report_command(folders: Sequence[str], out: str | None, expect: Expected | None = None) -> Judged:
    """Compute the results of ablations from stored statistics, render them, and return them judged.

    No model is needed.

    Args:
        out: where to write; None: into the folder of the one ablation.
        expect: what is expected of the arms.

    Raises:
        UserError: not an ablation folder, no finished run in it, ablations with different baselines, or a
            folder that may not be written or holds something else.
    """
    compared = next((folder for folder in folders if reading.is_there(Path(folder) / COMPARISON)), None)
    if compared is not None:
        if len(folders) > 1 or out not in (None, compared):
            fix = f"attnlab report {compared}"
            raise UserError(
                compared, "is a comparison after the fact, which is reported by itself", accepted=fix
            )
        return conclude(Path(compared), expect)
    if len(folders) > 1 and out is None:
        raise UserError(
            "report", "several ablations need a folder of their own", accepted="name it with --out"
        )
    target = Path(out or folders[0])
    is_elsewhere = len(folders) > 1 or target.resolve() != Path(folders[0]).resolve()
    if is_elsewhere:
        _refuse_others(target)
    require_writable_folder(target, "attnlab report FOLDER... --out DIR writes into a folder of your own")
    ended = with_unique_cells([ended_ablation(Path(folder)) for folder in folders])
    results = results_of(ended, target)
    looks.record(results, ended, Terminal(errors=True).say)
    if is_elsewhere:
        target.mkdir(parents=True, exist_ok=True)
        atomic.write_json(target / TOGETHER, [os.path.relpath(folder, target) for folder in folders])
    write(results, target)
    report.print_table(results, Terminal(), target)
    Terminal(errors=True).say(f"report: {target / REPORT}")
    return judged(results, target, expect)


def _refuse_others(target: Path) -> None:
    """Refuse a folder whose files are those of another ablation, of a run or of the user.

    Raises:
        UserError: it names the file that would be replaced.
    """
    fix = "name another folder"
    for name in (REGISTRATION, RUNS, IDENTITY):
        if os.path.lexists(target / name):
            raise UserError(
                "--out", f"is the folder of a run or of another ablation: it has {name}", str(target), fix
            )
    for name in (RESULTS, REPORTS, *REPORT_FILES):
        if os.path.lexists(target / name) and not os.path.lexists(target / TOGETHER):
            what = f"holds {name}, but no {TOGETHER}, so no report wrote it"
            raise UserError("--out", what, str(target), fix)
