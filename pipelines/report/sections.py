"""The parts of the page: each is HTML made of the facts, empty when it has nothing to show."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape

from pipelines.report import format as fmt
from pipelines.report import tables, words
from pipelines.report.facts import Facts, Row
from pipelines.report.figures import cost, curves, forest, seeds, slopes, svg, variance

DIFFERENCES = (
    "Mark: mean paired difference, filled where the question is settled. Bar: 95 % interval over seeds and "
    "examples, with an arrow where it leaves the axis. Shaded: the margin declared beforehand. Dotted: plus and "
    "minus the difference that this design detects four times in five (MDE80)."
)
SEEDS = (
    "Above: each seed's score with the baseline and with the arm; the mean is thick. Below: each seed's difference "
    "(a dot, linked to the arm's run), the 95 % interval over seeds alone, which holds for these very examples (thin), "
    "and the one that holds for new examples too (dotted). Shaded: the margin."
)
CURVES = (
    "Thin: every seed. Thick: their mean where all seeds run. Losses are means over stretches of steps; a loss "
    "that stopped being finite ends its line, and a spike above the axis is cut."
)
COST = "Small: every seed. Large: the mean of its arm, joined to the baseline's."
VARIANCE = (
    "Dark: the share of the seeds alone, which more seeds reduce. Grey: of the examples alone, which only more "
    "examples reduce. Light: of seeds and examples together, which either reduces."
)


def swatch(facts: Facts, arm: str) -> str:
    """The arm's mark as a small picture beside its name."""
    return f'<svg viewBox="0 0 16 16" aria-hidden="true">{svg.mark(8, 8, facts.place(arm))}</svg>'


def legend(facts: Facts) -> str:
    items = "".join(f"<li>{swatch(facts, arm)}<span>{escape(arm)}</span></li>" for arm in facts.arms)
    return f'<ul class="legend" aria-label="Arms">{items}</ul>'


def figure(parts: Iterable[str], caption: str) -> str:
    """A box with its caption; nothing at all around nothing."""
    body = "".join(parts)
    return f"<figure>{body}<figcaption>{caption}</figcaption></figure>" if body else ""


def panels(name: str, drawn: Iterable[str], class_: str = "") -> str:
    """Pictures of one cell side by side, as far as the page is wide."""
    body = "".join(drawn)
    heading = f"<h3>{escape(name)}</h3>" if name else ""
    return f'{heading}<div class="{f"panels {class_}".strip()}">{body}</div>' if body else ""


def verdicts(facts: Facts) -> str:
    items = "".join(
        f'<li>{swatch(facts, arm)}<span class="name">{escape(arm)}</span>'
        f'<div class="says">{escape(words.arm(facts, arm))}{_chips(facts, arm)}</div></li>'
        for arm in facts.arms[1:]
    )
    alerts = "".join(f"<p>{escape(alert)}.</p>" for alert in words.alerts(facts))
    return f'<ul class="verdicts">{items}</ul>' + (f'<div class="alert">{alerts}</div>' if alerts else "")


def _chips(facts: Facts, arm: str) -> str:
    """An arm's verdict in every cell, when there are several."""
    rows = [row for row in facts.primary if row.arm == arm]
    chips = "".join(_chip(row) for row in rows)
    return f'<ul class="chips">{chips}</ul>' if len(rows) > 1 else ""


def _chip(row: Row) -> str:
    value = fmt.signed(row.difference, row.places)
    name = f"{escape(row.cell)} {escape(row.metric)}"
    return f"<li>{name} <b>{value}</b> {row.glyph} {escape(row.verdict or 'no-verdict')}</li>"


def differences(facts: Facts) -> str:
    if not facts.primary:
        return ""
    used = {row.word for row in facts.primary}
    told = [f"<b>{word}</b>: {meaning}" for word, meaning in words.MEANINGS.items() if word in used]
    both = forest.draw(facts, forest.WIDE), forest.draw(facts, forest.NARROW)
    return figure(both, f"{DIFFERENCES}<br>{'; '.join(told)}.")


def every_seed(facts: Facts) -> str:
    parts = []
    for cell in facts.cells:
        rows = facts.primary_of(cell)
        both = panels("", slopes.draw(facts, rows), "slopes") + panels("", [seeds.draw(facts, rows)])
        parts.append(f"<h3>{escape(cell)}</h3>{both}" if both else "")
    return figure(parts, SEEDS)


def learning(facts: Facts) -> str:
    parts = [panels(cell, drawn, "curves") for cell, drawn in curves.draw(facts).items()]
    return figure([legend(facts), *parts], CURVES) if any(parts) else ""


def costs(facts: Facts) -> str:
    parts = [panels(cell, [cost.draw(facts, cell)]) for cell in facts.cells]
    return figure([legend(facts), *parts], COST) if any(parts) else ""


def shares(facts: Facts) -> str:
    return figure([panels(c, [variance.draw(facts, facts.primary_of(c))]) for c in facts.cells], VARIANCE)


def methods(facts: Facts) -> str:
    return (
        '<p class="note">Ready to paste; every figure comes from the results and the manifests.</p>'
        f"<blockquote>{escape(words.methods(facts))}</blockquote>"
    )


def registration(facts: Facts) -> str:
    return f"<p>{escape(words.registration(facts))}</p>{tables.environment(facts)}"


SECTIONS: tuple[tuple[str, str, Callable[[Facts], str]], ...] = (
    ("verdicts", "Verdicts", verdicts),
    ("differences", "Differences", differences),
    ("table", "Table", tables.comparisons),
    ("seeds", "Every seed", every_seed),
    ("curves", "Learning curves", learning),
    ("cost", "Cost and quality", costs),
    ("variance", "Where the uncertainty comes from", shares),
    ("sanity", "Sanity", tables.sanity),
    ("methods", "Methods", methods),
    ("registration", "Registration and environment", registration),
    ("runs", "Runs", tables.runs),
)
