"""report.tex: the primary table with booktabs, no other package needed."""

from __future__ import annotations

from pipelines.report import sentences
from pipelines.report.data import ReportData
from pipelines.report.rows import Record, groups, headers, notes
from pipelines.report.templating import escape_latex as escape


def render(facts: ReportData) -> str:
    """A `table*` with notes under it; primary rows first, exploratory ones after a rule."""
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table*}",
        "\\centering\\small",
        "\\begin{tabular}{lrrrrrlr}",
        "\\toprule",
        _line([escape(header) for header in headers(facts)]),
    ]
    for primary in (True, False):
        for name, records in groups(facts, primary):
            title = escape(name) + ("" if primary else " (exploratory)")
            lines += ["\\midrule", f"\\multicolumn{{8}}{{l}}{{\\textit{{{title}}}}} \\\\"]
            lines += [_line(_cells(record)) for record in records]
    lines += ["\\bottomrule", "\\end{tabular}", "\\par\\smallskip"]
    signatures = dict.fromkeys(f"{row.metric}: {row.signature}." for row in facts.rows if row.signature)
    lines += ["\\parbox{\\textwidth}{\\footnotesize " + escape(" ".join([*notes(facts), *signatures])) + "}"]
    lines += [f"\\caption{{{escape(facts.title)}. {escape(sentences.lead(facts))}}}", "\\end{table*}"]
    return "\n".join(lines) + "\n"


def _cells(record: Record) -> list[str]:
    cells = (
        record.row.arm,
        record.baseline,
        record.arm,
        record.effect,
        record.p,
        record.mde80,
        record.verdict,
        record.time,
    )
    return [escape(cell) for cell in cells]


def _line(cells: list[str]) -> str:
    first, *rest = cells
    return " & ".join([f"{{}}{first}" if first.startswith("[") else first, *rest]) + r" \\"
