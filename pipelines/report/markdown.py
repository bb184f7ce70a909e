"""report.md: the same facts where HTML does not go, such as a pull request."""

from __future__ import annotations

from pipelines.report import attention, sentences
from pipelines.report import format as fmt
from pipelines.report.data import ReportData
from pipelines.report.rows import Record, groups, headers, notes
from pipelines.report.templating import escape_markdown as escape


def render(facts: ReportData) -> str:
    """The whole file; it shows `forest.svg`, which is written beside it."""
    parts = [
        f"# {escape(facts.title)}",
        escape(sentences.lead(facts)),
        "## Verdicts",
        "\n".join(f"- **{escape(arm)}**: {escape(sentences.arm(facts, arm))}" for arm in facts.arms[1:]),
        "![Differences to the baseline with 95 % intervals and the margin](forest.svg)",
        "## Comparisons",
        _tables(facts, True),
    ]
    if facts.exploratory:
        parts += ["### Exploratory", _tables(facts, False)]
    parts.append("\n".join(f"- {note}" for note in notes(facts)))
    alerts = sentences.alerts(facts)
    if alerts:
        parts += ["## To read with care", "\n".join(f"- {escape(alert)}" for alert in alerts)]
    parts += _attention(facts)
    parts += ["## Methods", escape(sentences.methods(facts))]
    parts += ["## Registration", escape(sentences.registration(facts))]
    parts += [
        "## Runs",
        _runs(facts),
        "The page with all figures is `report.html`; the numbers are in `results.json`.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _tables(facts: ReportData, primary: bool) -> str:
    parts = []
    for name, records in groups(facts, primary):
        lines = [
            _line([escape(header) for header in headers(facts, primary)]),
            "|:--|--:|--:|--:|--:|--:|:--|--:|",
        ]
        lines += [_line(_cells(record)) for record in records]
        parts.append(f"**{escape(name)}**\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _cells(record: Record) -> list[str]:
    """Numbers hold no Markdown but the brackets of intervals, harmless without a link after them."""
    return [
        escape(record.row.arm),
        record.baseline,
        record.arm,
        record.effect,
        record.p.replace("<", "&lt;"),
        record.mde80,
        f"{record.row.glyph} {escape(record.verdict)}",
        record.time,
    ]


def _attention(facts: ReportData) -> list[str]:
    """Means over seeds, sites and heads of what the page draws as heat maps."""
    lines = []
    for cell in facts.cells:
        for arm, seen in attention.look(facts, cell).items():
            common = [fmt.number(attention.overall(seen.mean(name))) for name in attention.COMMON]
            own = "; ".join(f"{name} {_spread(seen, name)}" for name in seen.own)
            lines.append(_line([escape(cell), escape(arm), *common, escape(own)]))
    if not lines:
        return []
    head = "| Cell | Arm | Entropy, 0 to 1 | On the first token | Learned: mean [least, most of a head] |"
    return ["## Attention", "\n".join([head, "|:--|:--|--:|--:|:--|", *lines])]


def _spread(seen: attention.AttentionStats, quantity: str) -> str:
    mean = attention.overall(seen.mean(quantity))
    return f"{fmt.signed(mean, 3)} {fmt.interval(seen.reach(quantity), 3)}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _runs(facts: ReportData) -> str:
    """Every run with a link to its folder."""
    lines = ["| Cell | Arm | Seed: run |", "|:--|:--|:--|"]
    for cell in facts.cells:
        for arm in facts.arms:
            runs = facts.runs_of(cell, arm)
            links = " · ".join(f"[{run.seed}]({run.href})" for run in sorted(runs, key=lambda run: run.seed))
            if links:
                lines.append(_line([escape(cell), escape(arm), links]))
    return "\n".join(lines)
