"""The table and the verdicts in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.table import Table
from rich.text import Text

from pipelines.comparison.results import CHANGED
from pipelines.report import headline, sentences, sequence, settling
from pipelines.report.data import ReportData
from pipelines.report.rows import Record, groups, notes
from pipelines.shown import printable
from pipelines.terminal import Terminal

# Columns that one line per comparison needs; a narrower terminal gets scores and interval on two lines.
WIDE = 116


def show(facts: ReportData, terminal: Terminal) -> None:
    """Print verdicts, the table, what went wrong, how to read the table, and the answer in one sentence."""
    for arm in facts.arms[1:]:
        terminal.print(Text.assemble(_text(f"{arm}: ", "bold"), _text(sentences.arm(facts, arm))))
    for primary in (True, False):
        _groups(facts, primary, terminal)
    for row in facts.primary:
        for line in sequence.lines(row):
            terminal.print(_text(line), soft_wrap=True)
    for row in facts.primary if len(facts.cells) > 1 else ():  # of one cell, the sentences above say it
        if text := settling.note(facts, row):
            terminal.print(_text(f"{row.arm} on {row.cell}: {text}"))
    for alert in sentences.alerts(facts):
        terminal.print(_text(f"note: {alert}"))
    terminal.print()
    for note in (*notes(facts), sentences.registration(facts)):
        terminal.print(_text(note, "dim"))
    terminal.print()
    terminal.print(_text(f"In short: {headline.sentence(facts)}", "bold"))


def _groups(facts: ReportData, primary: bool, terminal: Terminal) -> None:
    """Print a title and a table for each cell and metric, all with the same column widths."""
    named = groups(facts, primary)
    wide = terminal.width >= WIDE
    headings = _headings(facts, primary, wide)
    lines = [_cells(record, wide) for _, records in named for record in records]
    widths = [
        max(cell_len(part) for cell in column for part in cell.split("\n"))
        for column in zip(headings, *lines)
    ]
    gaps = (2 if wide else 1) * (len(widths) - 1)
    room = terminal.width - sum(widths[1:]) - gaps  # numbers never break, names are cut
    widths[0] = max(8, min(widths[0], room))
    remaining = iter(lines)
    for name, records in named:
        terminal.print()
        title = name if primary else f"{name} (exploratory)"
        terminal.print(_text(title, "bold" if primary else "dim"))
        table = _table(headings, widths, wide)
        for _ in records:
            arm, *others = next(remaining)
            table.add_row(Text(_cut(arm, widths[0])), *map(Text, others), style=None if primary else "dim")
        terminal.print(table)


def _cut(name: str, width: int) -> str:
    """Return a name, or its beginning and its end around an ellipsis, in so many cells of a terminal."""
    if cell_len(name) <= width:
        return name
    tail = (width - 1) // 2
    end = set_cell_size(name[::-1], tail)[::-1]
    return f"{set_cell_size(name, width - 1 - tail)}…{end}"


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text, keep=""), style=style)


def _table(headings: Sequence[str], widths: Sequence[int], wide: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, int(wide), 0, 0))
    left = {0, len(headings) - 2}
    for place, (heading, width) in enumerate(zip(headings, widths)):
        table.add_column(
            Text(heading), justify="left" if place in left else "right", min_width=width, no_wrap=True
        )
    return table


def _headings(facts: ReportData, primary: bool, wide: bool) -> list[str]:
    baseline = _cut(printable(facts.baseline, keep=""), 9)
    p = "p Holm" if primary else "p"
    if wide:
        return [
            "Arm",
            f"{baseline} ± sd",
            "arm ± sd",
            "Difference [95 % CI]",
            p,
            "MDE80",
            "Verdict",
            "Δ time",
        ]
    return ["Arm", f"{baseline} ± sd\narm ± sd", "Difference\n[95 % CI]", p, "MDE80", "Verdict", "Δ time"]


def _cells(record: Record, wide: bool) -> list[str]:
    arm = printable(record.row.arm, keep="")
    row = record.row
    verdict = record.verdict.replace(f", {CHANGED}", "\nchanged after\nregistration")
    tail = [record.p, record.mde80, f"{row.glyph} {verdict}", record.time]
    if wide:
        return [arm, record.baseline, record.arm, record.effect, *tail]
    return [arm, f"{record.baseline}\n{record.arm}", f"{record.difference}\n{record.interval}", *tail]
