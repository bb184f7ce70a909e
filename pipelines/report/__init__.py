"""Reports from stored results: a terminal table, Markdown, LaTeX and one self-contained page.

Nothing here needs a model, torch or a network: `results.json` and the run folders it names are enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.storage.names import REPORTS

if TYPE_CHECKING:
    from rich.console import Console


def write(results: Mapping[str, object], folder: Path) -> list[Path]:
    """Write report.html, report.md, report.tex and forest.svg into `folder`; return their paths.

    `results` is what `compare.build` returns. Its run folders are absolute or relative to `folder`; figures
    that need a missing one are left out.

    Raises:
        UserError: a field of the results is missing or has the wrong type.
    """
    from pipelines.report import data, html, latex, markdown
    from pipelines.report.figures import forest

    facts = data.load(results, folder)
    texts = (html.render(facts), markdown.render(facts), latex.render(facts), forest.standalone(facts))
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in REPORTS]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text, encoding="utf-8")
    return paths


def print_table(results: Mapping[str, object], console: Console, folder: Path = Path()) -> None:
    """Print verdicts, table, failures and notes; relative run folders start at `folder`."""
    from pipelines.report import data, terminal

    terminal.show(data.load(results, folder), console)
