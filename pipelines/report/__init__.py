"""Reports from stored results: a terminal table, Markdown, LaTeX and one self-contained page.

Nothing here needs a model, torch or a network: `results.json` and the run folders it names are enough.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.storage import atomic
from pipelines.storage.names import REPORT_FILES, REPORTS

if TYPE_CHECKING:
    from pipelines.terminal import Terminal


def render(results: Mapping[str, object], folder: Path) -> dict[str, str]:
    """Return the texts of report.html, report.md, report.tex, forest.svg and results.csv by their names.

    `results` is what `compare.build` returns. Its run folders are absolute or relative to `folder`; figures
    that need a missing one are left out.

    Raises:
        UserError: a field of the results is missing or has the wrong type.
    """
    from pipelines.report import data, html, latex, markdown, table_csv
    from pipelines.report.figures import forest

    facts = data.load(results, folder)
    texts = (
        html.render(facts),
        markdown.render(facts),
        latex.render(facts),
        forest.standalone(facts),
        table_csv.render(facts),
    )
    return dict(zip(REPORT_FILES, texts, strict=True))


def write(results: Mapping[str, object], folder: Path) -> list[Path]:
    """Write what `render` returns into `folder`, and the record by which it is verified; return the paths.

    Raises:
        UserError: as `render`, or a folder stands in the place of a file.
    """
    outputs = render(results, folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in outputs.items():
        atomic.write_bytes(folder / name, text.encode())
    files = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in outputs.items()}
    atomic.write_json(folder / REPORTS, {"renderer": renderer(), "files": files})
    return [folder / name for name in outputs]


@cache
def renderer() -> str:
    """Return a hash of all that renders a report: another version of it gives other texts."""
    digest = hashlib.sha256()
    home = Path(__file__).parent
    for path in sorted(path for path in home.rglob("*") if path.is_file() and path.suffix != ".pyc"):
        digest.update(path.relative_to(home).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def print_table(results: Mapping[str, object], terminal: Terminal, folder: Path = Path()) -> None:
    """Print verdicts, table, failures and notes; relative run folders start at `folder`."""
    from pipelines.report import data
    from pipelines.report.terminal import show

    show(data.load(results, folder), terminal)
