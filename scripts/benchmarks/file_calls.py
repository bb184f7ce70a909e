"""File system calls of a run and of `attnlab status` for 1,000 runs, by strace, and the files that remain."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipelines.ablation.cell import Cell
from pipelines.ablation.grid import plan_cells, remember_folders
from pipelines.ablation.preregistration import register
from pipelines.config.load import AblationConfig, load_ablation
from scripts.benchmarks.cases import CONFIGS, REPOSITORY
from scripts.benchmarks.report import Size, ablation_of, make_up
from scripts.benchmarks.table import Table

OVERRIDES = ("set.num_epochs=2", "set.checkpoint_every_steps=160", "seeds=[1]")  # of the quickstart
MANY = 1000
READS = frozenset({"open to read", "stat, access, readlink"})


def run() -> Table:
    """Count calls that name a file in the ablation's folder (or beside it), by kind."""
    if shutil.which("strace") is None:
        raise SystemExit("this benchmark counts with strace, which is not installed (apt-get install strace)")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        run_folder, ablation = _prepared(folder)
        one = _calls(["run-cell", str(ablation), run_folder.name], folder)
        again = _calls(["run-cell", str(ablation), run_folder.name], folder)
        left = [path.relative_to(run_folder) for path in run_folder.rglob("*") if path.is_file()]
        in_model = sum(path.parts[0] == "model" for path in left)
        large = folder / "many" / "large"
        size = Size(5, 60, 20, MANY)
        make_up(_written_down(ablation_of(size), large), size)
        many = _calls(["status", str(large)], folder)
    rows = [
        ("one run from start to end", *_cells(one)),
        ("the same command when it is over", *_cells(again)),
        (f"attnlab status of {MANY:,} runs", *_cells(many)),
    ]
    records = [{"what": row[0], **calls} for row, calls in zip(rows, (one, again, many), strict=True)]
    note = f"Files of the run when it is over: {len(left) - in_model}, and {in_model} of its model."
    return Table(
        ("what", "all calls", "that only read", "that change something", "fsync"),
        rows,
        records,
        notes=(note,),
    )


def _prepared(folder: Path) -> tuple[Path, Path]:
    """Prepare a stock run of the quickstart without starting it; return its folder and the ablation's."""
    ablation = folder / "runs" / "one"
    cells = _written_down(load_ablation(str(CONFIGS / "quickstart.yaml"), OVERRIDES), ablation)
    return next(cell.folder for cell in cells if cell.arm == "stock"), ablation


def _written_down(config: AblationConfig, ablation: Path) -> list[Cell]:
    """Write the files of `attnlab ablate --prepare`."""
    register(config, ablation)
    cells = plan_cells(config, ablation)
    remember_folders(cells, ablation)
    return cells


def _calls(arguments: Sequence[str], folder: Path) -> Counter[str]:
    """Count the file calls of `attnlab <arguments>` and its children that name a path in `folder`."""
    log = folder.parent / f"{folder.name}.strace"
    trace = ["strace", "-f", "-y", "-o", str(log), "-e", "trace=%file,fsync"]
    try:
        subprocess.run(
            [*trace, sys.executable, "-m", "pipelines", *arguments],
            check=True,
            capture_output=True,
            cwd=REPOSITORY,
        )
        lines = [line for line in log.read_text(errors="replace").splitlines() if str(folder) in line]
    finally:
        log.unlink(missing_ok=True)
    return Counter(kind for line in lines if (kind := _kind(line)))


def _kind(line: str) -> str | None:
    found = re.match(r"\d+\s+(\w+)\(", line)
    if found is None:  # the second half of a call that strace split
        return None
    name = found[1]
    if name == "fsync":
        return "fsync"
    if name in ("open", "openat"):
        return "open to write" if re.search(r"O_(WRONLY|RDWR|CREAT)", line) else "open to read"
    changes = name.startswith(
        ("rename", "unlink", "mkdir", "rmdir", "link", "symlink", "utime", "chmod", "fchmod")
    )
    return name if changes else "stat, access, readlink"


def _cells(calls: Counter[str]) -> tuple[str, ...]:
    reads, synced = sum(calls[kind] for kind in READS), calls["fsync"]
    return tuple(f"{count:,}" for count in (calls.total(), reads, calls.total() - reads - synced, synced))
