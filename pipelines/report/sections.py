"""The parts of the page: each is HTML made of the facts, empty when it has nothing to show."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape

from pipelines.report import attention, examples, sentences, side_by_side, tables
from pipelines.report import format as fmt
from pipelines.report.data import ReportData
from pipelines.report.figures import (
    bootstrap,
    cost,
    curves,
    forest,
    heatmap,
    lengths,
    seeds,
    slopes,
    svg,
    variance,
)

DIFFERENCES = (
    "Mark: mean paired difference, filled where the question is settled. Bar: 95 % interval over seeds and "
    "examples, with an arrow where it leaves the axis. Shaded: the margin declared beforehand. Dotted: plus "
    "and minus the difference that this design detects four times in five (MDE80)."
)
SEEDS = (
    "Slopes: each seed's score with the baseline and with the arm; the mean is thick. Strips: each seed's "
    "difference (a dot that links to the arm's run), the 95 % interval over seeds alone, which holds for "
    "these very examples (line), and the one that holds for new examples too (dotted). Shaded: the margin."
)
CURVES = (
    "Thin: every seed. Thick: their mean where all seeds run. Losses are means over stretches of steps; a "
    "loss that stopped being finite ends its line, and a spike above the axis is cut."
)
COST = "Small: every seed, linked to its run. Large: the mean of its arm, joined to the baseline's."
VARIANCE = (
    "Bars: what makes up the variance of each difference. More seeds reduce the first two parts, more "
    "examples the last two. Hills: the difference over resampled examples, seeds held fixed; a check of the "
    "interval."
)
LENGTHS = (
    "The difference among examples of similar length. Small: every seed. Large: their mean. These are not "
    "tests: they say where to look."
)
ATTENTION = (
    "Layers down, heads across; means over seeds on one fixed batch of validation examples, with the weights "
    "that were scored. Entropy is a share of its largest value, the logarithm of the number of visible "
    "tokens: 0 is one token, 1 all alike. Differences pair the seeds."
)
HIDDEN = "No text is shown (data.publish_text is false), only labels, of"
NO_ATTENTION = "No run of these keeps attention diagnostics (diagnostics.jsonl), so there is no picture of it"


def swatch(facts: ReportData, arm: str) -> str:
    """The arm's mark as a small picture beside its name."""
    return f'<svg viewBox="0 0 16 16" aria-hidden="true">{svg.mark(8, 8, facts.place(arm))}</svg>'


def legend(facts: ReportData) -> str:
    items = "".join(f"<li>{swatch(facts, arm)}<span>{escape(arm)}</span></li>" for arm in facts.arms)
    return f'<ul class="legend" aria-label="Arms">{items}</ul>'


def figure(parts: Iterable[str], caption: str, class_: str = "stack") -> str:
    """A box with its caption; nothing at all around nothing."""
    body = "".join(parts)
    return f'<figure class="{class_}">{body}<figcaption>{caption}</figcaption></figure>' if body else ""


def panels(name: str, drawn: Iterable[str], class_: str = "panels") -> str:
    """Pictures side by side as far as the page is wide, under the name of their cell."""
    body = "".join(drawn)
    heading = f"<h3>{escape(name)}</h3>" if name else ""
    return f'{heading}<div class="{class_}">{body}</div>' if body else ""


def verdicts(facts: ReportData) -> str:
    """One cell: a sentence per arm. Several: a matrix that is read along its rows."""
    alerts = "".join(f"<p>{escape(alert)}.</p>" for alert in sentences.alerts(facts))
    told = tables.verdicts(facts) if len(facts.primary) > len(facts.arms) - 1 else _sentences(facts)
    return told + (f'<div class="alert">{alerts}</div>' if alerts else "")


def _sentences(facts: ReportData) -> str:
    items = "".join(
        f'<li>{swatch(facts, arm)}<span class="name">{escape(arm)}</span>'
        f'<div class="says">{escape(sentences.arm(facts, arm))}</div></li>'
        for arm in facts.arms[1:]
    )
    return f'<ul class="verdicts">{items}</ul>'


def differences(facts: ReportData) -> str:
    if not facts.primary:
        return ""
    used = {row.word for row in facts.primary}
    told = [f"<b>{word}</b>: {meaning}" for word, meaning in sentences.MEANINGS.items() if word in used]
    both = forest.draw(facts, forest.WIDE), forest.draw(facts, forest.NARROW)
    return figure(both, f"{DIFFERENCES}<br>{'; '.join(told)}.")


def every_seed(facts: ReportData) -> str:
    parts = []
    for cell in facts.cells:
        rows = facts.primary_of(cell)
        both = panels("", slopes.draw(facts, rows)), seeds.draw(facts, rows)
        parts.append(f'<h3>{escape(cell)}</h3><div class="duo">{"".join(both)}</div>' if both[1] else "")
    return figure(parts, SEEDS)


def learning(facts: ReportData) -> str:
    parts = [panels(cell, drawn, "panels curves") for cell, drawn in curves.draw(facts).items()]
    return figure([legend(facts), *parts], CURVES) if any(parts) else ""


def costs(facts: ReportData) -> str:
    drawn = panels("", [cost.draw(facts, cell) for cell in facts.cells])
    return figure([legend(facts), drawn], COST, "beside") if drawn else ""


def shares(facts: ReportData) -> str:
    parts = []
    for cell in facts.cells:
        rows = facts.primary_of(cell)
        bars, hills = variance.draw(facts, rows), panels("", bootstrap.draw(facts, rows))
        parts.append(f'<h3>{escape(cell)}</h3><div class="duo">{bars}{hills}</div>' if bars or hills else "")
    names = (
        ("share-seeds", "seeds alone"),
        ("share-both", "both at once"),
        ("share-examples", "examples alone"),
    )
    keys = "".join(
        f'<li><svg viewBox="0 0 16 16" aria-hidden="true">{svg.rect(1, 1, 14, 14, class_)}</svg>{name}</li>'
        for class_, name in names
    )
    return figure([f'<ul class="legend">{keys}</ul>', *parts], VARIANCE) if any(parts) else ""


def by_example(facts: ReportData) -> str:
    """Differences by length for everyone; texts only where the data may be published, labels always."""
    reader, pictures, texts, hidden = examples.Reader(), [], [], []
    may_show = facts.results.publish_text or {}
    for cell in facts.cells:
        known = [
            one for row in facts.primary_of(cell) if (one := examples.breakdown(row, reader)) is not None
        ]
        pictures.append(lengths.draw(facts, known))
        if not may_show.get(cell):
            hidden += [cell] if known else []
            known = [labels for one in known if (labels := one.without_texts())]
        texts += [side_by_side.render(one) for one in known]
    about = f"{HIDDEN} {escape(fmt.listing(hidden))}." if hidden else ""
    note = f'<p class="note">{about}</p>' if about else ""
    drawn = figure([legend(facts), panels("", pictures)], LENGTHS, "beside") if any(pictures) else ""
    return drawn + "".join(texts) + note


def heads(facts: ReportData) -> str:
    """Heat maps of every cell; a sentence where runs kept nothing to draw them from."""
    parts, without = [], []
    for cell in facts.cells:
        seen = attention.look(facts, cell)
        without += [f"{arm} on {cell}" for arm in facts.arms if arm not in seen and facts.runs_of(cell, arm)]
        for name, drawn in heatmap.draw(facts, seen).items() if seen else ():
            parts.append(panels(f"{cell} · {name}", drawn))
    if not any(parts):
        return f'<p class="note">{NO_ATTENTION}.</p>' if without else ""
    missing = f" Not kept by the runs of {escape(fmt.listing(without))}." if without else ""
    return figure(parts, ATTENTION + missing)


def methods(facts: ReportData) -> str:
    return (
        '<p class="note">Ready to paste; every figure comes from the results and the manifests.</p>'
        f"<blockquote>{escape(sentences.methods(facts))}</blockquote>"
    )


def registration(facts: ReportData) -> str:
    return f"<p>{escape(sentences.registration(facts))}</p>{tables.environment(facts)}"


SECTIONS: tuple[tuple[str, str, Callable[[ReportData], str]], ...] = (
    ("verdicts", "Verdicts", verdicts),
    ("differences", "Differences", differences),
    ("table", "Table", tables.comparisons),
    ("seeds", "Every seed", every_seed),
    ("curves", "Learning curves", learning),
    ("attention", "Attention", heads),
    ("cost", "Cost", costs),
    ("uncertainty", "Uncertainty", shares),
    ("examples", "Examples", by_example),
    ("arms", "Arms", tables.arms),
    ("methods", "Methods", methods),
    ("registration", "Registration", registration),
    ("runs", "Runs", tables.runs),
)
