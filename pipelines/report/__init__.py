"""Reports from stored results: a terminal table, Markdown, LaTeX and one self-contained page.

Nothing here needs a model, torch or a network: `results.json` and the run folders it names are enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.storage.names import REPORT

if TYPE_CHECKING:
    from rich.console import Console


def write(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write report.html, report.md, report.tex and forest.svg into `folder`; return their paths.

    `results` is what `compare.build` returns. Its run folders are absolute or relative to `folder`; one
    that is missing costs the figures that need it, never the report.
    """
    from pipelines.report import data, html, latex, markdown
    from pipelines.report.figures import forest

    known = data.load(results, folder)
    outputs = {
        REPORT: html.render(known),
        "report.md": markdown.render(known),
        "report.tex": latex.render(known),
        "forest.svg": forest.standalone(known),
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in outputs]
    for path, text in zip(paths, outputs.values()):
        path.write_text(text, encoding="utf-8")
    return paths


def print_table(results: Mapping[str, Any], console: Console, folder: Path = Path()) -> None:
    """Print verdicts, table, failures and notes; `folder` is where relative run folders start."""
    from pipelines.report import data as facts
    from pipelines.report import terminal

    terminal.show(facts.load(results, folder), console)
